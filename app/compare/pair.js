// Two clips on one clock, and how much they differ.

import { pictureOf } from '../parts/page.js';
import { clockOf } from './clock.js';

export const GAIN = 4;

// Writes |a - b|, GAIN times as bright, into `out` (all RGBA); returns the mean in grey levels.
export const differ = (a, b, out) => {
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    for (let c = 0; c < 3; c++) {
      const gap = Math.abs(a[i + c] - b[i + c]);
      sum += gap;
      out[i + c] = Math.min(255, GAIN * gap);
    }
    out[i + 3] = 255;
  }
  return sum / (a.length * 0.75);
};

export function mount({ element, props, watch }) {
  const panes = [...element.querySelectorAll('figure')].map((figure) => ({
    name: figure.querySelector('figcaption'), canvas: figure.querySelector('canvas'),
    ink: figure.querySelector('canvas').getContext('2d', { willReadFrequently: true }),
  }));
  let pair = null, loads = 0;

  const clock = clockOf(element, (frames) => {
    const { side, sheets, titles } = pair;
    sheets.forEach((sheet, i) => {
      const own = sheet.height;
      panes[i].ink.drawImage(sheet, frames[i] * own, 0, own, own, 0, 0, side, side);
      panes[i].canvas.setAttribute('aria-label', `${titles[i]}, frame ${frames[i] + 1}`);
    });
    const [a, b] = panes.slice(0, 2).map(({ ink }) => ink.getImageData(0, 0, side, side).data);
    const out = panes[2].ink.createImageData(side, side);
    const mean = differ(a, b, out.data).toFixed(1);
    panes[2].ink.putImageData(out, 0, 0);
    panes[2].name.textContent = `Difference, ${GAIN}x as bright: ${mean} grey levels on average`;
    panes[2].canvas.setAttribute('aria-label', panes[2].name.textContent);
  });
  const load = async () => {
    const clips = props.value?.clips, mine = ++loads;
    element.hidden = !clips;
    if (!clips) { clock.stop(); return; }
    const sheets = await Promise.all(clips.map((clip) => pictureOf(clip.frames)));
    if (mine !== loads) return;
    const side = Math.max(...sheets.map((sheet) => sheet.height));
    pair = { side, sheets, titles: clips.map((clip) => clip.title) };
    panes.forEach((pane, i) => {
      pane.canvas.width = pane.canvas.height = side;
      if (i < 2) pane.name.textContent = pair.titles[i];
    });
    clock.start(sheets.map((sheet) => Math.round(sheet.width / sheet.height)), props.value.fps);
  };
  load();
  watch('value', load);
}

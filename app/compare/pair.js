// Two clips on one clock, and how much they differ. A clip that has ended shows its last frame.

import { pictureOf, player } from '../parts/page.js';

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
  const one = (name) => element.querySelector(name);
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const panes = [...element.querySelectorAll('figure')].map((figure) => ({
    name: figure.querySelector('figcaption'), canvas: figure.querySelector('canvas'),
    ink: figure.querySelector('canvas').getContext('2d', { willReadFrequently: true }),
  }));
  let pair = null, at = 0, loads = 0;

  const draw = () => {
    const { side, sheets, counts, length } = pair;
    const frame = Math.floor(at) % length;
    sheets.forEach((sheet, i) => {
      const shown = Math.min(frame, counts[i] - 1);
      panes[i].ink.drawImage(sheet, shown * side, 0, side, side, 0, 0, side, side);
      panes[i].canvas.setAttribute('aria-label', `${pair.titles[i]}, frame ${shown + 1}`);
    });
    const [a, b] = panes.slice(0, 2).map(({ ink }) => ink.getImageData(0, 0, side, side).data);
    const out = panes[2].ink.createImageData(side, side);
    const mean = differ(a, b, out.data).toFixed(1);
    panes[2].ink.putImageData(out, 0, 0);
    panes[2].name.textContent = `Difference, ${GAIN}x as bright: ${mean} grey levels on average`;
    panes[2].canvas.setAttribute('aria-label', panes[2].name.textContent);
    one('.clock').textContent = `frame ${frame + 1} of ${length}`;
    one('.seek').value = frame;
    one('.play').textContent = clock.playing ? 'Pause' : 'Play';
  };
  const clock = player(element, (seconds) => {
    at += seconds * pair.fps * Number(one('.speed').value);
    draw();
  });
  const play = (wanted) => {
    clock.play(wanted);
    draw();
  };
  const load = async () => {
    const clips = props.value?.clips;
    element.hidden = !clips;
    if (!clips) { pair = null; clock.play(false); return; }
    const mine = ++loads;
    const sheets = await Promise.all(clips.map((clip) => pictureOf(clip.frames)));
    if (mine !== loads) return;
    const side = sheets[0].height, counts = sheets.map((sheet) => Math.round(sheet.width / side));
    const titles = clips.map((clip) => clip.title);
    pair = { side, sheets, counts, titles, length: Math.max(...counts), fps: props.value.fps };
    panes.forEach((pane, i) => {
      pane.canvas.width = pane.canvas.height = side;
      if (i < 2) pane.name.textContent = titles[i];
    });
    one('.seek').max = pair.length - 1;
    at = 0;
    play(!still);
  };
  one('.play').addEventListener('click', () => { if (pair) play(!clock.playing); });
  one('.seek').addEventListener('input', () => {
    if (!pair) return;
    at = Number(one('.seek').value);
    play(false);
  });
  load();
  watch('value', load);
}

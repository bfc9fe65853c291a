// A grid of clips that loop on one clock. Each is a button that opens its clip.

import { ARROWS, clamp, make, pictureOf, player } from '../../parts/page.js';

// The frame that each of several clips shows at a time in frames: all start again together.
export const framesAt = (at, counts) => {
  const frame = Math.floor(at) % Math.max(...counts);
  return counts.map((count) => Math.min(frame, count - 1));
};

// The cell that an arrow key leads to from the one at `index`; null for another key.
export const cellAfter = (index, key, count, columns) => {
  if (key === 'Home') return 0;
  if (key === 'End') return count - 1;
  const arrow = ARROWS[key];
  if (!arrow) return null;
  const next = index + arrow[0] * columns + arrow[1];
  return next === clamp(next, 0, count - 1) ? next : index;
};

export function mount({ element, props, watch, trigger }) {
  const one = (name) => element.querySelector(name);
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  let grid = null, at = 0, loads = 0;

  const draw = () => {
    const frames = framesAt(at, grid.counts);
    grid.sheets.forEach((sheet, i) => {
      const side = sheet.height;
      grid.inks[i].drawImage(sheet, frames[i] * side, 0, side, side, 0, 0, side, side);
    });
    const frame = Math.max(...frames);
    one('.clock').textContent = `frame ${frame + 1} of ${grid.length}`;
    one('.seek').value = frame;
    one('.play').textContent = clock.playing ? 'Pause' : 'Play';
  };
  const clock = player(element, (seconds) => {
    at += seconds * grid.fps * Number(one('.speed').value);
    draw();
  });
  const play = (wanted) => {
    clock.play(wanted);
    draw();
  };
  const cell = (clip, side) => {
    const open = make('button', 'open', make('li', '', one('.cells')));
    open.type = 'button';
    const canvas = make('canvas', '', open);
    canvas.width = canvas.height = side;
    canvas.setAttribute('aria-hidden', 'true');
    make('span', 'caption', open).textContent = clip.caption;
    make('span', 'details', open).textContent = clip.details;
    open.setAttribute('aria-label', `Open ${clip.caption}: ${clip.details}`);
    open.addEventListener('click', () => trigger('select', { id: clip.id }));
    return canvas.getContext('2d');
  };
  const load = async () => {
    const { cells = [], fps } = props.value || {};
    const mine = ++loads;
    const sheets = await Promise.all(cells.map((clip) => pictureOf(clip.frames)));
    if (mine !== loads) return;
    element.hidden = !cells.length;
    one('.cells').replaceChildren();
    if (!cells.length) { grid = null; clock.play(false); return; }
    const counts = sheets.map((sheet) => Math.round(sheet.width / sheet.height));
    const inks = cells.map((clip, i) => cell(clip, sheets[i].height));
    grid = { sheets, counts, inks, fps, length: Math.max(...counts) };
    one('.seek').max = grid.length - 1;
    at = 0;
    play(!still);
  };
  one('.play').addEventListener('click', () => { if (grid) play(!clock.playing); });
  one('.seek').addEventListener('input', () => {
    if (!grid) return;
    at = Number(one('.seek').value);
    play(false);
  });
  one('.cells').addEventListener('keydown', (event) => {
    const buttons = [...element.querySelectorAll('.open')];
    const columns = getComputedStyle(one('.cells')).gridTemplateColumns.split(' ').length;
    const index = buttons.indexOf(event.target);
    const next = cellAfter(index, event.key, buttons.length, columns);
    if (next === null) return;
    event.preventDefault();
    buttons[next].focus();
  });
  load();
  watch('value', load);
}

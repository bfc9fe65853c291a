// A grid of clips that loop on one clock. Each is a button that opens its clip.

import { ARROWS, clamp, make, pictureOf } from '../../parts/page.js';
import { clockOf } from '../clock.js';

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
  let shown = null, loads = 0;

  const clock = clockOf(element, (frames) => shown.sheets.forEach((sheet, i) => {
    const side = sheet.height;
    shown.inks[i].drawImage(sheet, frames[i] * side, 0, side, side, 0, 0, side, side);
  }));
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
    if (!cells.length) { clock.stop(); return; }
    shown = { sheets, inks: cells.map((clip, i) => cell(clip, sheets[i].height)) };
    clock.start(sheets.map((sheet) => Math.round(sheet.width / sheet.height)), fps);
  };
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

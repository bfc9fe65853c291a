import { make } from './page.js';

// A tour over the page's own controls: a card beside each, which waits for the reader and leaves
// the page usable. Where it was left is remembered in the browser.

const KEPT = 'nbp-studio-tour';

export const STOPS = [
  ['#start', 'Start', 'A clip starts from an action by name, such as a task of the robot arm, from'
    + ' a picture with a camera move over it, or from five frames.'],
  ['#block', 'Block', 'Each step writes one block of tokens at once. A single token is next-token'
    + ' prediction; a row needs 13 times fewer steps.'],
  ['#go', 'Generate', 'Press it now if you like: the tour waits. The same seed makes the'
    + ' same clip.'],
  ['#preview .panes', 'Clip and tokens', 'Left the frames, right the tokens they are made from.'
    + ' Point at a square to see its patch, its code and its probability.'],
  ['#preview .player', 'Player', 'One slider for both. Under Show, watch how the clip was made, at'
    + ' its own speed, slowly, or step by step.'],
  ['tab:Compare', 'Compare', 'Race two block sizes from the same start, and see why one is'
    + ' faster.'],
  ['tab:Attention', 'Attention', 'See what every token looks at: a triangle for next-token, a'
    + ' staircase for next-block prediction.'],
  ['tab:How it works', 'How it works', 'Six steps follow your own clip from pixels to tokens and'
    + ' back. That was the tour.'],
];

// Where a card of some height stands beside a box: below it, else above, else at the page's top.
export const placeOf = (box, card, page) => {
  const left = Math.max(8, Math.min(box.left, page.width - card.width - 8));
  if (box.bottom + card.height + 16 <= page.height) return { left, top: box.bottom + 8 };
  if (box.top - card.height - 8 >= 0) return { left, top: box.top - card.height - 8 };
  return { left, top: 8 };
};

// The stop to begin with: the one that was left, or the first after a tour that was finished.
export const firstStop = (kept, count) => {
  const stop = Number.parseInt(kept, 10);
  return stop > 0 && stop < count ? stop : 0;
};

const tabCalled = (name) => [...document.querySelectorAll('[role=tab]')].find(
  (tab) => tab.textContent.trim() === name && tab.offsetWidth);
// A tab that finds no room on a phone lies behind the button of Gradio's menu.
const find = (target) => {
  if (!target.startsWith('tab:')) return document.querySelector(target);
  return tabCalled(target.slice(4)) || document.querySelector('.overflow-menu button');
};

export function tour() {
  let card = null, ring = null, stop = 0, opener = null;

  const follow = () => {
    if (!card) return;
    const target = find(STOPS[stop][0]), box = target && target.getBoundingClientRect();
    ring.hidden = !box || !box.width;
    if (box) {
      ring.style.left = `${box.left - 4}px`;
      ring.style.top = `${box.top - 4}px`;
      ring.style.width = `${box.width + 8}px`;
      ring.style.height = `${box.height + 8}px`;
    }
    const page = { width: innerWidth, height: innerHeight };
    const { left, top } = placeOf(box || { left: 8, top: 0, bottom: 0 },
      { width: card.offsetWidth, height: card.offsetHeight }, page);
    card.style.left = `${left}px`;
    card.style.top = `${top}px`;
    requestAnimationFrame(follow);
  };
  const close = () => {
    card.remove();
    ring.remove();
    card = ring = null;
    if (opener) opener.focus();
  };
  const show = (wanted) => {
    if (wanted >= STOPS.length) {
      localStorage.setItem(KEPT, 'done');
      close();
      return;
    }
    stop = wanted;
    localStorage.setItem(KEPT, String(stop));
    const [target, title, text] = STOPS[stop];
    card.querySelector('h2').textContent = title;
    card.querySelector('p').textContent = text;
    card.querySelector('.count').textContent = `${stop + 1} of ${STOPS.length}`;
    card.querySelector('.back').disabled = stop === 0;
    card.querySelector('.next').textContent = stop + 1 === STOPS.length ? 'Finish' : 'Next';
    const part = find(target);
    if (part && !part.offsetWidth) tabCalled('Generate')?.click(); // which has the other stops
    if (part) part.scrollIntoView({ block: 'center' });
    card.focus();
  };
  const button = (name, text, act, row) => {
    const made = make('button', name, row);
    made.type = 'button';
    made.textContent = text;
    made.addEventListener('click', act);
  };
  const open = (from) => {
    if (card) { close(); return; }
    opener = from;
    ring = make('div', 'tour-ring', document.body);
    card = make('div', 'tour-card', document.body);
    card.tabIndex = -1;
    card.setAttribute('role', 'dialog');
    card.setAttribute('aria-label', 'Tour of the studio');
    make('h2', '', card);
    make('p', '', card);
    const row = make('div', 'tour-row', card);
    make('span', 'count', row);
    button('back', 'Back', () => show(stop - 1), row);
    button('next', 'Next', () => show(stop + 1), row);
    button('leave', 'Leave', close, row);
    card.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
    show(firstStop(localStorage.getItem(KEPT), STOPS.length));
    requestAnimationFrame(follow);
  };
  document.addEventListener('click', (event) => {
    const from = event.target.closest('#tour-open');
    if (from) open(from);
  });
}

// What the whole page needs, such as the open tab in the address.
import { crops } from './parts/crop.js';
import { tour } from './parts/tour.js';
import { uploads } from './parts/uploads.js';

// The page's address with the open tab in it.
export const remembered = (address, tab) => {
  const url = new URL(address);
  url.searchParams.set('tab', tab);
  return url.href;
};

// The tab that an address names; a visit begins with the first.
export const tabOf = (address) => new URL(address).searchParams.get('tab') ?? 'generate';

// Each tab that is opened is a page to come back to. Gradio keeps the tabs that find no room on a
// phone in a menu.
const keepTabs = () => {
  window.nbpOpened = (tab) => {
    if (tabOf(location.href) !== tab) history.pushState(null, '', remembered(location.href, tab));
  };
  addEventListener('popstate', () => {
    const wanted = tabOf(location.href);
    const tabs = document.querySelectorAll('[role="tab"], .overflow-dropdown button');
    [...tabs].find((tab) => tab.textContent.trim().toLowerCase().replaceAll(' ', '-') === wanted)
      ?.click();
  });
};

// A chart that was drawn while it was hidden is narrower than its place.
const widenCharts = () => document.addEventListener('click', (event) => {
  if (!event.target.closest('.label-wrap, [role="tab"]')) return;
  setTimeout(() => dispatchEvent(new Event('resize')), 200);
});

// Presses a button of a tab that may just be opening, once it can be pressed.
const press = (id, patience = 100) => {
  const button = document.getElementById(id);
  if (button && !button.disabled) button.click();
  else if (patience) setTimeout(() => press(id, patience - 1), 100);
};

// Leads the focus to the clip that another tab has opened, once it is shown.
const focusClip = (patience = 50) => {
  const play = document.querySelector('#preview .play');
  if (play?.offsetParent) {
    play.focus({ preventScroll: true });
    reveal(document.querySelector('#preview .panes'));
  } else if (patience) setTimeout(() => focusClip(patience - 1), 100);
};

const isStill = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

// Brings a part into view, if it is not all there already. What stands above it may go or grow at
// that moment, so it is brought back until the page has settled, or the visitor moves the page.
const SETTLE_MS = 2000;
const reveal = (part) => {
  const show = () => {
    const { top, bottom } = part.getBoundingClientRect();
    if (top >= 0 && bottom <= innerHeight) return;
    part.scrollIntoView({ behavior: isStill() ? 'auto' : 'smooth', block: 'start' });
  };
  const follow = new ResizeObserver(show);
  const settled = new AbortController();
  const end = () => { follow.disconnect(); settled.abort(); };
  for (const name of ['wheel', 'touchmove', 'keydown']) {
    addEventListener(name, end, { signal: settled.signal, passive: true });
  }
  setTimeout(end, SETTLE_MS);
  follow.observe(document.body); // which also calls at once
};

// A button that starts something rests meanwhile, and one that stops it rests before and after. The
// keyboard's focus then moves to the other, rather than to the top of the page.
const keepFocus = () => {
  let last = null;
  const byId = (id) => document.getElementById(id);
  const partnerOf = ({ id }) => id.endsWith('stop')
    ? byId(id.replace(/stop$/, 'go')) || byId(id.replace(/-stop$/, ''))
    : byId(id.endsWith('go') ? id.replace(/go$/, 'stop') : `${id}-stop`);
  document.addEventListener('focusin', (event) => { last = event.target; });
  document.addEventListener('pointerdown', () => { last = null; });
  new MutationObserver(() => {
    if (!last || !last.disabled || !last.id) return;
    const partner = partnerOf(last);
    if (partner && !partner.disabled) partner.focus({ preventScroll: true });
  }).observe(document.body, { attributes: true, attributeFilter: ['disabled'], subtree: true });
};

// Tab leaves a menu: Gradio takes it for a letter, opens the list and leaves it open. The list is
// no stop on the way: browsers take a list that scrolls for one, and it closes under the focus.
const closeMenus = () => document.addEventListener('keydown', (event) => {
  if (event.key !== 'Tab' || !event.target.matches('[role="combobox"]')) return;
  event.stopPropagation();
  document.getElementById(event.target.getAttribute('aria-controls'))?.setAttribute('tabindex', -1);
}, true);

// A new attempt takes the note away that refused the last one.
const clearNotes = () => document.addEventListener('click', (event) => {
  if (!event.target.closest('button.primary')) return;
  document.querySelectorAll('.toast-close').forEach((button) => button.click());
}, true);

// What a button starts, and where it is seen.
const SHOWN = {
  go: '#preview .panes', 'race-go': '#race-status', tokenize: '#tokenizer-status',
  convert: '#models-status', fingerprints: '#models-status',
};

export function mount() {
  document.addEventListener('click', (event) => {
    const wanted = SHOWN[event.target.closest('button')?.id];
    if (wanted) reveal(document.querySelector(wanted));
  });
  keepFocus();
  keepTabs();
  widenCharts();
  closeMenus();
  clearNotes();
  uploads();
  crops();
  tour();
  window.nbpPress = press;
  window.nbpFocusClip = focusClip;
}

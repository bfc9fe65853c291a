// A card for each clip. The picture opens it and plays while it is pointed at or focused.

const button = (parent, name, label, act) => {
  const made = document.createElement('button');
  made.type = 'button';
  made.className = name;
  made.textContent = label;
  made.addEventListener('click', act);
  parent.append(made);
  return made;
};

// Which card takes the focus when the one at `index` of `count` is gone.
export const heir = (index, count) => Math.max(0, Math.min(index, count - 2));

export function mount({ element, props, watch, trigger }) {
  const list = element.querySelector('.cards');
  const more = element.querySelector('.more');
  let focus = null; // {id, index, part}: what to focus once the cards are drawn again

  const card = (clip, index, count) => {
    const item = document.createElement('li');
    item.className = 'card';
    item.dataset.id = clip.id;
    const tell = (act) => () => trigger('select', { act, id: clip.id });
    const open = button(item, 'open', '', tell('open'));
    open.setAttribute('aria-label', `Open ${clip.title}: ${clip.details.join(', ')}`);
    if (clip.id === props.value.opened) {
      item.classList.add('opened');
      open.setAttribute('aria-current', 'true');
    }
    const film = document.createElement('span');
    film.className = 'film';
    if (clip.film) film.style.backgroundImage = `url("${clip.film}")`;
    else film.textContent = 'No preview';
    open.append(film);
    const title = document.createElement('p');
    title.className = 'title';
    title.textContent = clip.title;
    item.append(title);
    for (const line of clip.details) {
      const details = document.createElement('p');
      details.className = 'details';
      details.textContent = line;
      item.append(details);
    }
    if (clip.fault) {
      const fault = document.createElement('p');
      fault.className = 'fault';
      fault.textContent = clip.fault;
      item.append(fault);
    }
    const acts = document.createElement('div');
    acts.className = 'acts';
    item.append(acts);
    const name = (made) => made.setAttribute('aria-description', clip.title);
    name(button(acts, 'use', 'Use settings', tell('use')));
    name(button(acts, 'pin', clip.pinned ? 'Unpin' : 'Pin', tell(clip.pinned ? 'unpin' : 'pin')));
    const remove = button(acts, 'delete', 'Delete', () => {
      if (remove.textContent === 'Delete') {
        remove.textContent = 'Really?';
        remove.setAttribute('aria-label', 'Press again to delete this clip');
        return;
      }
      focus = { id: null, index: heir(index, count), part: '.open' };
      trigger('select', { act: 'delete', id: clip.id });
    });
    name(remove);
    remove.addEventListener('blur', () => {
      remove.textContent = 'Delete';
      remove.removeAttribute('aria-label');
    });
    return item;
  };
  const draw = () => {
    const { cards = [], hidden = 0 } = props.value || {};
    // Whoever works elsewhere by now keeps the focus there.
    const now = document.activeElement;
    const isHere = now === document.body || element.contains(now);
    const held = now.closest('.card');
    if (list.contains(held)) {
      const index = [...list.children].indexOf(held);
      focus ??= { id: held.dataset.id, index, part: `.${now.className}` };
    }
    list.replaceChildren(...cards.map((clip, index) => card(clip, index, cards.length)));
    more.hidden = !hidden;
    more.textContent = `Show ${hidden} more`;
    if (focus && isHere) {
      const found = cards.findIndex((clip) => clip.id === focus.id);
      const item = list.children[found < 0 ? focus.index : found];
      item?.querySelector(focus.part)?.focus({ preventScroll: true });
    }
    focus = null;
  };
  more.addEventListener('click', () => {
    focus = { id: null, index: list.children.length, part: '.open' };
    trigger('select', { act: 'all', id: null });
  });
  draw();
  watch('value', draw);
}

import { split } from '../parts/clip.js';
import { ARROWS, cellAt, clamp, fit, onTheme, player } from '../parts/page.js';

// Positions, places and targets are those of app.how.plan.plan.
const GAP = 14, LABEL = 18;

// What step (from 1) feeds and makes: positions start to stop, the last `count` of which predict.
export const stepOf = (plan, step) => {
  const [phase, start, stop, count] = plan.steps[step - 1];
  return { phase, start, stop, count, from: stop - count };
};

// Place -> the step that made it, of all that is there before a step; 0 for what is given.
export const madeBefore = (plan, step) => {
  const order = new Map();
  plan.blocks.slice(0, plan.known).flat().forEach((place) => order.set(place, 0));
  for (let s = 1; s < step; s++) {
    const { from, stop } = stepOf(plan, s);
    for (let p = from; p < stop; p++) order.set(plan.target[p], s);
  }
  return order;
};

// How latent frames are laid out in a width of so many pixels.
export const fieldOf = ([t, h, w], width) => {
  const columns = Math.min(t, width < 420 ? 2 : width < 600 ? 3 : t);
  const cell = Math.max(4, Math.floor((width - 2 - GAP * (columns - 1)) / columns / w));
  return { columns, cell, width, height: Math.ceil(t / columns) * (h * cell + LABEL + GAP) };
};

// The upper left corner of a token's square, in pixels.
export const cornerOf = (place, grid, { columns, cell }) => {
  const [t, row, column] = split(place, grid), [, h, w] = grid;
  return {
    x: (t % columns) * (w * cell + GAP) + column * cell,
    y: Math.floor(t / columns) * (h * cell + LABEL + GAP) + LABEL + row * cell,
  };
};

export const placeWords = (place, grid) => {
  const [t, row, column] = split(place, grid);
  return `latent frame ${t + 1}, row ${row + 1}, column ${column + 1}`;
};

// Positions that the mask shows: all, or the first few blocks.
export const shownLength = (plan, isZoomed) => {
  const length = plan.segment.length, size = plan.blocks[0].length;
  return isZoomed ? Math.min(length, Math.max(24, plan.head + 2 * size)) : length;
};

const howMade = (plan, now, p) => {
  const isSingle = now.count === 1 || plan.blocks[0].length === 1;
  if (plan.kind[p] === 2) return 'The begin-of-video token predicts it, after the condition.';
  if (now.count > 1 && plan.kind[now.stop - 1] === 1) {
    return `The last token of block 1 and ${now.count - 1} placeholders at the places of block 1`
      + ' predict it.';
  }
  return isSingle ? 'Each token predicts the next one.'
    : 'Each token predicts the token at the same place of the next block.';
};

// One step in words; p is the position whose arrow is drawn.
export const stepWords = (plan, step, p) => {
  const now = stepOf(plan, step), size = plan.blocks[0].length;
  const number = (count) => count.toLocaleString('en');
  const block = plan.blocks.findIndex((places) => places.includes(plan.target[p])) + 1;
  const what = now.count > 1
    ? `block ${block} of ${plan.blocks.length}, ${now.count} tokens at once`
    : size === 1 ? `token ${block} of ${plan.blocks.length}` : `one token of block ${block}`;
  const given = step === 1 && plan.known ? 'The given frame is read first. ' : '';
  const [from, to] = [plan.place[p], plan.target[p]].map((place) => placeWords(place, plan.grid));
  const arrow = plan.place[p] < 0 ? '' : ` Arrow: ${from} to ${to}.`;
  return `Step ${number(step)} of ${number(plan.steps.length)}: ${what}. ${given}`
    + `${howMade(plan, now, p)}${arrow}`;
};

export function mount({ element, props, watch, trigger }) {
  const one = (name) => element.querySelector(name);
  const grid = one('.grid'), mask = one('.mask'), slider = one('.step'), said = one('.read');
  const HINT = said.textContent;
  const NEW = '#e69f00', FED = '#009e73', GIVEN = 'rgba(128,128,128,.55)';
  let plan = null, step = 1, picked = 0, waited = 0, width = 0;
  let field = null, map = null, at = null; // at: [row, column] of the mask

  const fresh = () => stepOf(plan, step);
  const corner = (place) => cornerOf(place, plan.grid, field);
  const where = (place) => placeWords(place, plan.grid);
  const arrow = (ink, from, to) => {
    const half = field.cell / 2, a = corner(from), b = corner(to);
    const [x0, y0, x1, y1] = [a.x + half, a.y + half, b.x + half, b.y + half];
    const angle = Math.atan2(y1 - y0, x1 - x0), head = 9;
    ink.lineWidth = 2.5;
    ink.beginPath();
    ink.moveTo(x0, y0);
    ink.lineTo(x1, y1);
    for (const turn of [-0.5, 0.5]) {
      ink.moveTo(x1, y1);
      ink.lineTo(x1 - head * Math.cos(angle + turn), y1 - head * Math.sin(angle + turn));
    }
    ink.stroke();
    ink.beginPath();
    ink.arc(x0, y0, 3, 0, 7);
    ink.fill();
  };
  const walls = (ink, owner) => {
    const [t, h, w] = plan.grid;
    ink.lineWidth = 1;
    ink.globalAlpha = 0.55;
    ink.beginPath();
    for (let place = 0; place < t * h * w; place++) {
      const {x, y} = corner(place), column = place % w, row = Math.floor(place / w) % h;
      if (column === 0 || owner[place] !== owner[place - 1]) {
        ink.moveTo(x, y); ink.lineTo(x, y + field.cell);
      }
      if (row === 0 || owner[place] !== owner[place - w]) {
        ink.moveTo(x, y); ink.lineTo(x + field.cell, y);
      }
      const right = x + field.cell, bottom = y + field.cell;
      if (column === w - 1) { ink.moveTo(right, y); ink.lineTo(right, bottom); }
      if (row === h - 1) { ink.moveTo(x, bottom); ink.lineTo(right, bottom); }
    }
    ink.stroke();
    ink.globalAlpha = 1;
  };
  const drawGrid = () => {
    field = fieldOf(plan.grid, grid.clientWidth || 600);
    const ink = fit(grid, field.width, field.height);
    const colour = getComputedStyle(element).color;
    const [t, h, w] = plan.grid, now = fresh(), order = madeBefore(plan, step);
    const fill = (place, style) => {
      const {x, y} = corner(place);
      ink.fillStyle = style;
      ink.fillRect(x, y, field.cell, field.cell);
    };
    for (const [place, s] of order) {
      fill(place, s === 0 ? GIVEN : `rgba(0,114,178,${0.2 + 0.7 * s / plan.steps.length})`);
    }
    for (let p = now.from; p < now.stop; p++) {
      if (plan.place[p] >= 0) fill(plan.place[p], FED);
    }
    for (let p = now.from; p < now.stop; p++) fill(plan.target[p], NEW);
    const owner = [];
    plan.blocks.forEach((places, b) => places.forEach((place) => { owner[place] = b; }));
    ink.strokeStyle = ink.fillStyle = colour;
    walls(ink, owner);
    ink.font = '12px sans-serif';
    for (let i = 0; i < t; i++) {
      const {x, y} = corner(i * h * w);
      ink.fillText(`latent frame ${i + 1}`, x, y - 5);
    }
    const p = now.from + Math.min(picked, now.count - 1);
    if (plan.place[p] >= 0) arrow(ink, plan.place[p], plan.target[p]);
    tell(p);
  };
  const tell = (p) => {
    one('.told').textContent = stepWords(plan, step, p);
    grid.setAttribute('aria-label', `Grid of ${plan.grid.join(' x ')} tokens in blocks of`
      + ` ${plan.name}. ${one('.told').textContent}`);
  };
  const drawMap = () => {
    const length = plan.segment.length;
    map = document.createElement('canvas');
    map.width = map.height = length;
    const ink = map.getContext('2d');
    for (let a = 0; a < length;) {
      let b = a;
      while (b < length && plan.segment[b] === plan.segment[a]) b++;
      ink.fillStyle = 'rgba(0,114,178,.45)';
      ink.fillRect(0, a, a, b - a);
      ink.fillStyle = 'rgba(0,114,178,.95)';
      ink.fillRect(a, a, b - a, b - a);
      a = b;
    }
  };
  const shown = () => shownLength(plan, one('.zoom').checked);
  const drawMask = () => {
    const side = Math.min(340, mask.clientWidth || 340), n = shown(), scale = side / n;
    const ink = fit(mask, side, side), now = fresh();
    ink.imageSmoothingEnabled = scale < 1;
    ink.drawImage(map, 0, 0, n, n, 0, 0, side, side);
    ink.strokeStyle = NEW;
    ink.lineWidth = 2;
    ink.strokeRect(1, now.from * scale, Math.min(side - 2, now.stop * scale),
                   Math.max(1, now.count * scale));
    if (at) {
      const [y, x] = at.map((index) => (index + .5) * scale);
      ink.strokeStyle = getComputedStyle(element).color;
      ink.lineWidth = 1;
      ink.beginPath();
      ink.moveTo(0, y); ink.lineTo(side, y);
      ink.moveTo(x, 0); ink.lineTo(x, side);
      ink.stroke();
    }
    mask.setAttribute('aria-label', `Attention mask of ${plan.segment.length} positions, blocks of`
      + ` ${plan.name}: ${plan.blocks[0].length > 1 ? 'a staircase' : 'a triangle'}`);
  };
  const draw = () => {
    if (!plan || !grid.clientWidth) { width = 0; return; } // drawn once it is seen
    width = grid.clientWidth;
    slider.value = step;
    slider.setAttribute('aria-valuetext', `Step ${step} of ${plan.steps.length}`);
    one('.play').textContent = clock.playing ? 'Pause' : 'Play';
    drawGrid();
    drawMask();
  };
  const go = (wanted) => {
    if (!plan) return;
    step = clamp(wanted, 1, plan.steps.length);
    draw();
  };
  const clock = player(element, (seconds) => {
    const count = plan.steps.length;
    waited += seconds;
    if (waited < clamp(12 / count, .03, .6)) return;
    waited = 0;
    // Long sequences take several steps a picture, so that all of them last about as long.
    const next = step + Math.max(1, Math.round(count / 400));
    if (next >= count) clock.play(false);
    go(next);
  });
  const play = (wanted) => {
    if (!plan) return;
    if (wanted && step >= plan.steps.length) step = 1;
    waited = 0;
    clock.play(wanted);
    draw();
  };
  const goByHand = (wanted) => {
    clock.play(false);
    go(wanted);
  };
  const describe = (p) => plan.kind[p] === 2
    ? (p === 0 ? 'the condition' : 'the begin-of-video token')
    : `${plan.kind[p] === 1 ? 'placeholder at ' : ''}${where(plan.place[p])}`;
  const load = () => {
    if (!props.value || !props.value.steps) return;
    plan = props.value;
    clock.play(false);
    at = null;
    said.textContent = HINT;
    slider.max = plan.steps.length;
    picked = Math.floor(plan.blocks[0].length / 2);
    // The first step at which a whole block is made from a whole block says most.
    const first = plan.steps.findIndex(([, , stop, count]) =>
      count === plan.blocks[0].length && plan.kind[stop - 1] === 0);
    drawMap();
    go(first < 0 ? 1 : first + 1);
  };
  one('.play').addEventListener('click', () => play(!clock.playing));
  one('.back').addEventListener('click', () => goByHand(step - 1));
  one('.next').addEventListener('click', () => goByHand(step + 1));
  slider.addEventListener('input', () => goByHand(Number(slider.value)));
  one('.zoom').addEventListener('change', draw);
  grid.addEventListener('keydown', (event) => {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (by) { event.preventDefault(); goByHand(step + by); }
  });
  grid.addEventListener('click', (event) => {
    if (!plan) return;
    const box = grid.getBoundingClientRect(), now = fresh();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    for (let p = now.from; p < now.stop; p++) {
      for (const place of [plan.target[p], plan.place[p]]) {
        if (place < 0) continue;
        const at = corner(place);
        if (x >= at.x && x < at.x + field.cell && y >= at.y && y < at.y + field.cell) {
          picked = p - now.from;
          draw();
          return;
        }
      }
    }
  });
  const read = (cell, isSpoken) => {
    at = cell.map((index) => clamp(index, 0, shown() - 1));
    const [row, key] = at, from = describe(row);
    const may = plan.segment[key] <= plan.segment[row] ? 'may' : 'may not';
    said.setAttribute('aria-live', isSpoken ? 'polite' : 'off');
    said.textContent = `${from[0].toUpperCase()}${from.slice(1)} ${may} look at ${describe(key)}.`;
    drawMask();
  };
  const point = (event) => {
    if (!plan) return;
    read(cellAt(event.clientX, event.clientY, mask.getBoundingClientRect(), shown(), shown()));
  };
  mask.addEventListener('pointermove', point);
  mask.addEventListener('click', point); // a tap moves no pointer
  mask.addEventListener('keydown', (event) => {
    const by = ARROWS[event.key];
    if (!by || !plan) return;
    event.preventDefault();
    const far = event.shiftKey ? 16 : 1, start = at ?? [fresh().from, fresh().from];
    read(start.map((index, i) => index + far * by[i]), true);
  });
  // Drawing sets the height; only a new width is a reason to draw again.
  new ResizeObserver(() => { if (grid.clientWidth !== width) draw(); }).observe(grid);
  onTheme(() => { width = 0; draw(); });
  load();
  watch('value', load);
}

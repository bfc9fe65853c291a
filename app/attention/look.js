import { ARROWS, bytesOf, cellAt, clamp, make, pictureOf } from '../parts/page.js';

const CELL = 16;
const UNSEEN = 'rgba(128, 128, 128, .8)';
const ANSWER_MS = 1000;

// The square root lets small weights show beside the greatest; `share` is of that one.
export const tint = (share, colours) => {
  const root = Math.sqrt(share), at = 3 * Math.round(255 * root);
  const [red, green, blue] = colours.subarray(at, at + 3);
  return `rgba(${red}, ${green}, ${blue}, ${(.35 + .45 * root).toFixed(3)})`;
};

// Where an arrow key moves to in latent frame t: from the chosen token, if it is in that frame.
export const neighbour = (chosen, t, grid, step) => {
  const from = chosen[0] === t ? chosen.slice(1) : [0, 0];
  return [t, ...from.map((at, i) => clamp(at + step[i], 0, grid[i + 1] - 1))];
};

export function mount({ element, props, watch, trigger }) {
  const HINT = 'Click a token to see where the query that predicts it looks; arrow keys move it.';
  const readout = element.querySelector('.readout');
  let lines = [], pictures = [], sources = '', wanted = 0;

  const outline = (context, [, h, w], colour, width) => {
    const inset = width / 2;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(
      w * CELL + inset, h * CELL + inset, CELL - 2 * inset, CELL - 2 * inset);
  };

  const paint = (canvas, row, t, colours) => {
    const [, height, width] = row.data.grid, context = canvas.getContext('2d');
    canvas.width = width * CELL;
    canvas.height = height * CELL;
    context.imageSmoothingEnabled = false;
    if (pictures[t]) context.drawImage(pictures[t], 0, 0, canvas.width, canvas.height);
    for (let h = 0; h < height; h++) for (let w = 0; w < width; w++) {
      const at = (t * height + h) * width + w;
      context.fillStyle = row.seen[at] ? tint(row.weights[at] / row.most, colours) : UNSEEN;
      context.fillRect(w * CELL, h * CELL, CELL, CELL);
    }
    if (row.data.held && row.data.held[0] === t) outline(context, row.data.held, '#ffffff', 2);
    if (row.data.made[0] === t) {
      outline(context, row.data.made, '#000000', 5);
      outline(context, row.data.made, '#22d3ee', 3);
    }
  };

  const pick = (row, place) => {
    row.asked = { place, until: performance.now() + ANSWER_MS };
    window.nbpQuery = { pane: row.index, place };
    trigger('select', {});
  };
  const cell = (canvas, event, row) => cellAt(
    event.clientX, event.clientY, canvas.getBoundingClientRect(), ...row.data.grid.slice(1));

  const build = (index) => {
    const line = make('section', 'line', element.querySelector('.rows'));
    const row = {
      index, title: make('p', 'title', line), canvases: [], captions: [], asked: { until: 0 },
    };
    row.strip = make('div', 'strip', line);
    row.text = make('p', 'text', line);
    return row;
  };

  const addFrame = (row, t) => {
    const figure = make('figure', '', row.strip), canvas = make('canvas', '', figure);
    canvas.setAttribute('role', 'img');
    canvas.tabIndex = 0;
    row.captions.push(make('figcaption', '', figure));
    row.canvases.push(canvas);
    canvas.addEventListener('click', (event) => pick(row, [t, ...cell(canvas, event, row)]));
    canvas.addEventListener('pointermove', (event) => {
      const [h, w] = cell(canvas, event, row), [, height, width] = row.data.grid;
      const at = (t * height + h) * width + w;
      const weight = row.seen[at] ? row.weights[at].toPrecision(3) : 'not seen by this query';
      readout.textContent = `Token (${t + 1}, ${h + 1}, ${w + 1}): ${weight}.`;
    });
    canvas.addEventListener('keydown', (event) => {
      const step = ARROWS[event.key], { made, grid } = row.data;
      if (!step) return;
      event.preventDefault();
      // Keys are faster than answers: each goes on from where the last one led.
      const from = performance.now() < row.asked.until ? row.asked.place : made;
      pick(row, neighbour(from, t, grid, step));
    });
  };

  const draw = async () => {
    const view = props.value, mine = ++wanted;
    if (!view?.rows) {
      lines = [];
      element.querySelector('.rows').replaceChildren();
      readout.textContent = '';
      return;
    }
    if (view.frames.join() !== sources) {
      const found = await Promise.all(view.frames.map((at) => pictureOf(at).catch(() => null)));
      if (mine !== wanted) return;
      pictures = found;
      sources = view.frames.join();
    }
    const colours = bytesOf(view.colours);
    const isSame = lines.length === view.rows.length &&
      lines.every((row, i) => row.canvases.length === view.rows[i].captions.length);
    if (!isSame) {
      element.querySelector('.rows').replaceChildren();
      lines = view.rows.map((_, index) => build(index));
      lines.forEach((row, i) => view.rows[i].captions.forEach((_, t) => addFrame(row, t)));
    }
    lines.forEach((row, i) => {
      row.data = view.rows[i];
      row.weights = new Float32Array(bytesOf(row.data.weights).buffer);
      row.seen = bytesOf(row.data.seen);
      row.most = Math.max(row.weights.reduce((a, b) => Math.max(a, b), 0), 1e-9);
      row.title.textContent = row.data.title;
      row.text.textContent = row.data.text;
      row.canvases.forEach((canvas, t) => {
        const caption = row.data.captions[t];
        canvas.setAttribute('aria-label', `${row.data.title}, attention over ${caption}`);
        row.captions[t].textContent = caption;
        paint(canvas, row, t, colours);
      });
    });
    readout.textContent = HINT;
    document.dispatchEvent(
      new CustomEvent('nbp-attention-rows', { detail: view.rows.map((row) => row.row) }));
  };
  draw();
  watch('value', draw);
}

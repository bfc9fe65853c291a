import { ARROWS, bytesOf, cellAt, clamp, make, onTheme } from '../parts/page.js';

// A weight travels as a byte: 255 is 1, 1 is 10 ** -decades, 0 is less than that.
export const weightOf = (level, decades) => 10 ** ((level - 255) * decades / 254);

// A colour for each level. `top` is the brightest weight of a linear scale; `divisor` dims.
export const levelColours = ({ colours, decades, isLog, top, divisor }) => {
  const dimmed = 254 / decades * Math.log10(divisor);
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const share = isLog ? level - dimmed : 255 * weightOf(level, decades) / divisor / top;
    return colours[level === 0 ? 0 : clamp(Math.round(share), 0, 255)];
  });
};

// For each query the first key that it may not see; walls are where blocks begin and the end.
export const lastKeys = (n, walls) => {
  const end = new Int32Array(n);
  walls.slice(1).forEach((wall, i) => end.fill(wall, walls[i], wall));
  return end;
};

// The ticks that can be read beside each other, in pixels: frames first, rows where room is left.
export const readableTicks = (ticks, scale) => {
  const kept = [];
  const isFree = (at, room) => kept.every(([other]) => Math.abs(other - at) >= room);
  for (const wanted of [true, false]) for (const [position, words, isFrame] of ticks) {
    const at = position * scale;
    if (isFrame === wanted && isFree(at, isFrame ? 20 : 24)) kept.push([at, words, isFrame]);
  }
  return kept;
};

export function mount({ element, props, watch, trigger }) {
  const find = (name, from = element) => from.querySelector('.' + name);
  const HINT = 'Queries run down, keys across; t is the latent frame, h the row of tokens. Point '
    + 'at the map to read a weight; click a row to see where that query looks. Arrow keys and '
    + 'Enter do the same.';
  const MASKED = 0x33808080, LEFT = 46, TOP = 22, FIT = 600;
  let shown = [], colours = new Uint32Array(256), view = null;

  const on = (name) => find(name).checked;

  const paint = (pane) => {
    const { n, top, prefix } = pane.data, context = pane.canvas.getContext('2d');
    const image = context.createImageData(n, n), pixels = new Uint32Array(image.data.buffer);
    const scale = { colours, decades: view.decades, isLog: on('log'), top };
    const video = levelColours({ ...scale, divisor: 1 });
    const lowered = on('fifth') ? levelColours({ ...scale, divisor: view.divisor }) : video;
    for (let q = 0, i = 0; q < n; q++) {
      for (let k = 0; k < n; k++, i++) {
        pixels[i] = k >= pane.end[q] ? MASKED : (k < prefix ? lowered : video)[pane.levels[i]];
      }
    }
    context.putImageData(image, 0, 0);
  };

  // On a canvas of the screen's own pixels: in a map that is shrunk, lines of one weight vanish.
  const drawWalls = (pane) => {
    const { n, walls, ticks } = pane.data, dense = devicePixelRatio || 1;
    const side = Math.round(pane.canvas.clientWidth * dense), scale = side / n;
    pane.lines.width = pane.lines.height = side;
    if (!side || !on('walls')) return;
    const context = pane.lines.getContext('2d'), sharp = (at) => Math.round(at * scale) + .5;
    const line = (path, colour) => {
      context.strokeStyle = colour;
      context.lineWidth = Math.round(dense);
      context.stroke(path);
    };
    const frames = new Path2D(), stairs = new Path2D();
    ticks.filter((tick) => tick[2]).forEach(([at]) => {
      frames.moveTo(0, sharp(at)); frames.lineTo(side, sharp(at));
      frames.moveTo(sharp(at), 0); frames.lineTo(sharp(at), side);
    });
    stairs.moveTo(0, .5);
    walls.slice(1).forEach((wall, i) => {
      stairs.lineTo(sharp(wall), sharp(walls[i]));
      stairs.lineTo(sharp(wall), sharp(wall));
    });
    line(frames, 'rgba(56, 189, 248, .5)');
    line(stairs, 'rgb(56, 189, 248)');
  };

  const drawAxis = (pane, canvas, isLeft) => {
    const length = pane.canvas.clientWidth, scale = length / pane.data.n;
    if (!length) return;
    canvas.width = isLeft ? LEFT : length;
    canvas.height = isLeft ? length : TOP;
    const context = canvas.getContext('2d');
    context.fillStyle = getComputedStyle(element).color;
    context.font = '12px sans-serif';
    context.textBaseline = 'middle';
    for (const [from, words, isFrame] of readableTicks(pane.data.ticks, scale)) {
      context.font = (isFrame ? 'bold ' : '') + '12px sans-serif';
      if (isLeft) {
        context.fillRect(LEFT - (isFrame ? 12 : 5), from, isFrame ? 12 : 5, 1);
        context.fillText(words, 6, Math.min(from + 7, length - 6));
      } else {
        context.fillRect(from, TOP - (isFrame ? 10 : 4), 1, isFrame ? 10 : 4);
        const most = length - context.measureText(words).width;
        context.fillText(words, Math.min(from + 3, most), 8);
      }
    }
  };

  const size = (pane) => {
    pane.canvas.style.width = on('exact') ? pane.data.n + 'px' : '100%';
    pane.grid.style.gridTemplateColumns =
      LEFT + 'px ' + (on('exact') ? pane.data.n + 'px' : `minmax(0, ${FIT}px)`);
    pane.scroll.classList.toggle('exact', on('exact'));
    drawWalls(pane);
    drawAxis(pane, pane.left, true);
    drawAxis(pane, pane.top, false);
  };

  const mark = (pane, row) => {
    const line = row * pane.canvas.clientHeight / pane.data.n, { scroll } = pane;
    const isHidden = line < scroll.scrollTop || line > scroll.scrollTop + scroll.clientHeight - TOP;
    // Where the map itself was drawn anew, it stays where the visitor left it.
    if (isHidden && pane.marked !== row) scroll.scrollTop = line - scroll.clientHeight / 2;
    pane.marked = row;
    pane.mark.style.top = 100 * row / pane.data.n + '%';
    pane.mark.style.height = Math.max(100 / pane.data.n, .12) + '%';
  };

  const read = (pane, row, column) => {
    const { labels, makes, n, prefix } = pane.data, level = pane.levels[row * n + column];
    const weight = column >= pane.end[row] ? 'masked'
      : level === 0 ? 'below ' + 10 ** -view.decades
      : 'about ' + weightOf(level, view.decades).toPrecision(2);
    const making = makes[row] ? ', which makes token ' + makes[row] : '';
    find('readout').textContent = `Weight ${weight}: query ${row + 1}, ${labels[row]}${making}, ` +
      `looks at key ${column + 1}, ${labels[column]}.`;
    pane.cross.style.left = 100 * column / n + '%';
    pane.cross.hidden = false;
  };

  const place = (pane, event) => cellAt(
    event.clientX, event.clientY, pane.canvas.getBoundingClientRect(), pane.data.n, pane.data.n);

  const listen = (pane, index) => {
    const take = () => {
      mark(pane, pane.at[0]);
      window.nbpQuery = { pane: index, row: pane.at[0] };
      trigger('select', {});
    };
    // A click takes the row that was read: its own event knows whole pixels of the page only.
    for (const kind of ['pointermove', 'pointerdown']) {
      pane.canvas.addEventListener(kind, (event) => {
        pane.at = place(pane, event);
        read(pane, ...pane.at);
      });
    }
    pane.canvas.addEventListener('pointerleave', () => { pane.cross.hidden = true; });
    pane.canvas.addEventListener('click', take);
    pane.canvas.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') { event.preventDefault(); take(); }
      const step = ARROWS[event.key];
      if (!step) return;
      event.preventDefault();
      const n = pane.data.n, far = event.shiftKey ? 16 : 1;
      pane.at = pane.at.map((from, i) => clamp(from + far * step[i], 0, n - 1));
      mark(pane, pane.at[0]);
      read(pane, ...pane.at);
    });
  };

  const build = (data, index) => {
    const figure = make('figure', 'pane', find('panes')), pane = { figure };
    pane.title = make('figcaption', '', figure);
    pane.scroll = make('div', 'scroll', figure);
    pane.grid = make('div', 'grid', pane.scroll);
    make('span', 'corner', pane.grid);
    pane.top = make('canvas', 'top', pane.grid);
    pane.left = make('canvas', 'left', pane.grid);
    for (const axis of [pane.top, pane.left]) axis.setAttribute('aria-hidden', 'true');
    const sheet = make('div', 'sheet', pane.grid);
    pane.canvas = make('canvas', 'map', sheet);
    pane.canvas.setAttribute('role', 'img');
    pane.canvas.tabIndex = 0;
    pane.lines = make('canvas', 'lines', sheet);
    pane.lines.setAttribute('aria-hidden', 'true');
    pane.mark = make('div', 'mark', sheet);
    pane.cross = make('div', 'cross', sheet);
    pane.cross.hidden = true;
    listen(pane, index);
    new ResizeObserver(() => pane.data && size(pane)).observe(sheet);
    return pane;
  };

  const draw = () => {
    view = props.value;
    if (!view?.panes) {
      shown = [];
      find('panes').replaceChildren();
      find('readout').textContent = '';
      return;
    }
    const changed = shown.length !== view.panes.length;
    if (changed) {
      find('panes').replaceChildren();
      shown = view.panes.map(build);
    }
    const rgb = bytesOf(view.colours);
    for (let v = 0; v < 256; v++) {
      colours[v] = (255 << 24 | rgb[3 * v + 2] << 16 | rgb[3 * v + 1] << 8 | rgb[3 * v]) >>> 0;
    }
    shown.forEach((pane, i) => {
      const data = view.panes[i];
      pane.data = data;
      pane.levels = bytesOf(data.levels);
      pane.end = lastKeys(data.n, data.walls);
      pane.canvas.width = pane.canvas.height = data.n;
      pane.canvas.setAttribute('aria-label', `${data.title}: ${data.n} queries down, keys across`);
      pane.title.textContent = data.title;
      pane.at = [data.row, 0];
      pane.marked = data.row;
      mark(pane, data.row);
    });
    find('readout').textContent = HINT;
    repaint();
    document.dispatchEvent(new CustomEvent(
      'nbp-attention-head', { detail: { layer: view.layer, head: view.head } }));
  };

  const repaint = () => {
    if (!view || !view.panes) return;
    const ramp = find('ramp').getContext('2d'), image = ramp.createImageData(128, 1);
    new Uint32Array(image.data.buffer).set(colours.filter((_, v) => v % 2 === 0));
    ramp.putImageData(image, 0, 0);
    find('low').textContent = on('log') ? String(10 ** -view.decades) : '0';
    find('high').textContent = on('log') ? '1' : 'most';
    shown.forEach((pane) => {
      const top = on('log') ? '' : ` (brightest from ${pane.data.top.toPrecision(2)} on)`;
      pane.title.textContent = pane.data.title + top;
      size(pane);
      paint(pane);
    });
  };

  element.querySelectorAll('.switches input').forEach(
    (box) => box.addEventListener('change', repaint));
  document.addEventListener('nbp-attention-rows', (event) => {
    if (!element.isConnected) return;
    shown.forEach((pane, i) => { if (i in event.detail) mark(pane, event.detail[i]); });
  });
  onTheme(repaint);
  draw();
  watch('value', draw);
}

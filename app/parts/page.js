// What the pictures of several tabs share.

export const ARROWS = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
};

export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// The bytes of an array that Python sent as base64.
export const bytesOf = (text) => {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
};

// [row, column] of the cell under a pointer, in a box that is divided evenly.
export const cellAt = (x, y, box, rows, columns) => [
  clamp(Math.floor((y - box.top) / box.height * rows), 0, rows - 1),
  clamp(Math.floor((x - box.left) / box.width * columns), 0, columns - 1),
];

export const make = (tag, name, parent) => {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
};

// A canvas of so many pixels of the page, sharp on any screen: its context, which counts in those.
export const fit = (canvas, width, height) => {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const ink = canvas.getContext('2d');
  ink.scale(ratio, ratio);
  return ink;
};

// Draws again once the page has turned dark or light with the system: a canvas keeps its colours,
// while those of the page fade.
export const onTheme = (draw) => matchMedia('(prefers-color-scheme: dark)')
  .addEventListener('change', () => setTimeout(draw, 500));

// How many of the times, in order, have come by a limit.
export const countUntil = (times, limit) => {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low;
};

// [x, y] of a token on a sheet: latent frames side by side, a cell between neighbours.
export const cellOf = (place, [, height, width], columns) => {
  const t = Math.floor(place / (height * width)), inside = place % (height * width);
  return [
    (t % columns) * (width + 1) + inside % width,
    Math.floor(t / columns) * (height + 1) + Math.floor(inside / width),
  ];
};

export const pictureOf = async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
};

// Plays an element's pictures: while `playing`, it calls advance at every frame of the screen with
// the seconds since the last one, at most a quarter. It waits while the element is hidden, as on
// another tab, and ends when it leaves the page.
export const player = (element, advance) => {
  let before = 0, ticking = false;
  const tick = (now) => {
    const seconds = Math.min(.25, (now - before) / 1000);
    before = now;
    ticking = state.playing && element.isConnected;
    if (!ticking) return;
    requestAnimationFrame(tick); // first: one picture that fails must not be the last
    if (element.checkVisibility()) advance(seconds);
  };
  const state = {
    playing: false,
    play(wanted) {
      state.playing = wanted;
      if (!wanted || ticking) return;
      ticking = true;
      before = performance.now();
      requestAnimationFrame(tick);
    },
  };
  return state;
};

// The path under which the studio is served, without an end slash; Gradio knows where that is.
export const rootPath = (page, config) => {
  const root = (config && config.root) || new URL(page).origin;
  return new URL(root, page).pathname.replace(/\/$/, '');
};

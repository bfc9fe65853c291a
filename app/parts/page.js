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

// The square of an uploaded picture or clip that the model sees, drawn on it. It is dragged with
// the pointer; its slider, which holds the place, moves it by keyboard.
import { clamp, make } from './page.js';
import { seenOf } from './uploads.js';

// [left, top, width, height] of a picture inside a box that shows all of it, centred; a small one
// may be shown no larger than it is.
export const containedBox = (width, height, box, largest = Infinity) => {
  const scale = Math.min(box.width / width, box.height / height, largest);
  const [w, h] = [width * scale, height * scale];
  return [box.left + (box.width - w) / 2, box.top + (box.height - h) / 2, w, h];
};

// [left, top, side] of the square at a place from 0 (left or top) to 1 (right or bottom).
export const squareAt = (width, height, at) => {
  const side = Math.min(width, height);
  return [(width - side) * at, (height - side) * at, side];
};

// The place after a drag by so many pixels; a square picture has one place only.
export const dragged = (width, height, at, dx, dy) => {
  const room = Math.abs(width - height);
  return room < 1 ? at : clamp(at + (width > height ? dx : dy) / room, 0, 1);
};

const PAIRS = [['picture', 'crop'], ['clip', 'crop'], ['race-picture', 'race-crop'],
  ['race-clip', 'race-crop'], ['tokenizer-picture', 'tokenizer-crop'],
  ['tokenizer-clip', 'tokenizer-crop'], ['play-photo', 'play-crop'],
  ['attention-upload', 'attention-crop']];
const CONTROLS = 48; // pixels at the bottom of a clip that stay its player's

const cropOf = (uploadId, sliderId) => {
  let shade = null, square = null, box = null, from = null;
  const input = () => document.querySelector(`#${sliderId} input[type="range"]`);
  const build = (upload) => {
    shade = make('div', 'crop-shade', upload);
    square = make('div', 'crop-square', shade);
    square.addEventListener('pointerdown', (event) => {
      square.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY, at: Number(input().value) };
      event.preventDefault();
    });
    square.addEventListener('pointermove', (event) => {
      if (!from) return;
      const at = dragged(box[2], box[3], from.at, event.clientX - from.x, event.clientY - from.y);
      input().value = at.toFixed(2);
      input().dispatchEvent(new Event('input', { bubbles: true }));
      draw();
    });
    for (const kind of ['pointerup', 'pointercancel']) {
      square.addEventListener(kind, () => { from = null; });
    }
  };
  const draw = () => {
    const upload = document.getElementById(uploadId), slider = input();
    const media = upload && upload.querySelector('video, img');
    const seen = upload && seenOf(upload, media);
    const width = slider && seen && (seen.videoWidth || seen.naturalWidth);
    const height = width && (seen.videoHeight || seen.naturalHeight);
    if (!width || !upload.checkVisibility()) { if (shade) shade.hidden = true; return; }
    if (!shade || !upload.contains(shade)) build(upload);
    const largest = getComputedStyle(media).objectFit === 'scale-down' ? 1 : Infinity;
    box = containedBox(width, height, media.getBoundingClientRect(), largest);
    const outer = upload.getBoundingClientRect();
    const [left, top, side] = squareAt(box[2], box[3], Number(slider.value));
    shade.hidden = false;
    Object.assign(shade.style, { left: `${box[0] - outer.left - upload.clientLeft}px`,
      top: `${box[1] - outer.top - upload.clientTop}px`,
      width: `${box[2]}px`, height: `${box[3]}px` });
    Object.assign(square.style, { left: `${left}px`, top: `${top}px`, width: `${side}px`,
      height: `${side}px`, cursor: width > height ? 'ew-resize' : 'ns-resize',
      clipPath: seen.tagName === 'VIDEO' ? `inset(0 0 ${CONTROLS}px 0)` : 'none' });
  };
  return draw;
};

export const crops = () => {
  const draws = PAIRS.map(([upload, slider]) => cropOf(upload, slider));
  setInterval(() => draws.forEach((draw) => draw()), 200);
};

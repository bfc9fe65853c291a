// Which keys move what, and which of them are held. Knows nothing of the page.

// Every move of a world: its key for the model, its sign and word, and the codes that press it.
// The order is that of the places on the pad.
export const WORLDS = {
  arm: {
    rest: 'stay',
    moves: [
      ['away', '\u2191', 'away', ['ArrowUp', 'KeyW']],
      ['left', '\u2190', 'left', ['ArrowLeft', 'KeyA']],
      ['right', '\u2192', 'right', ['ArrowRight', 'KeyD']],
      ['near', '\u2193', 'near', ['ArrowDown', 'KeyS']],
      ['up', 'R', 'up', ['KeyR', 'PageUp']],
      ['down', 'F', 'down', ['KeyF', 'PageDown']],
    ],
    grip: true,
    hint: 'Arrow keys or W A S D move the hand. R and F, or Page Up and Page Down, lift and lower'
      + ' it. Space closes and opens the grip. A gamepad works too.',
  },
  camera: {
    rest: 'still',
    moves: [
      ['pan-up', '\u2191', 'up', ['ArrowUp', 'KeyW']],
      ['pan-left', '\u2190', 'left', ['ArrowLeft', 'KeyA']],
      ['pan-right', '\u2192', 'right', ['ArrowRight', 'KeyD']],
      ['pan-down', '\u2193', 'down', ['ArrowDown', 'KeyS']],
      ['zoom-in', 'R', 'zoom in', ['KeyR', 'PageUp']],
      ['zoom-out', 'F', 'zoom out', ['KeyF', 'PageDown']],
      ['turn-left', 'Q', 'turn left', ['KeyQ']],
      ['turn-right', 'E', 'turn right', ['KeyE']],
    ],
    grip: false,
    hint: 'Arrow keys or W A S D pan the camera. R and F, or Page Up and Page Down, zoom in'
      + ' and out. Q and E turn it. A gamepad works too.',
  },
};
export const GRIP_CODE = 'Space';

export const moveOf = (world, code) => {
  const found = WORLDS[world].moves.find(([, , , codes]) => codes.includes(code));
  return found ? found[0] : null;
};

// Whether a key pressed here belongs to the element itself: fields, lists, tabs, sliders.
const OWN_KEYS = 'input, textarea, select, [contenteditable]:not([contenteditable="false"]),'
  + ' [role="tab"], [role="slider"], [role="listbox"], [role="option"], [role="menu"],'
  + ' video, audio';
export const keepsKeys = (target) => Boolean(target && target.closest && target.closest(OWN_KEYS));

// Stick and buttons of a gamepad with the standard mapping: {move, grip}.
export const DEAD_ZONE = 0.4;
export const padState = (world, pad) => {
  const down = (index) => Boolean(pad.buttons[index] && pad.buttons[index].pressed);
  const axis = (index) => pad.axes[index] || 0;
  const [forth, left, right, back, up, lower] = WORLDS[world].moves.map(([name]) => name);
  const strongest = [
    [axis(1) < -DEAD_ZONE ? -axis(1) : Number(down(12)), forth],
    [axis(1) > DEAD_ZONE ? axis(1) : Number(down(13)), back],
    [axis(0) < -DEAD_ZONE ? -axis(0) : Number(down(14)), left],
    [axis(0) > DEAD_ZONE ? axis(0) : Number(down(15)), right],
    [axis(3) < -DEAD_ZONE ? -axis(3) : Number(down(5)), up],
    [axis(3) > DEAD_ZONE ? axis(3) : Number(down(7)), lower],
  ].sort((one, other) => other[0] - one[0])[0];
  return { move: strongest[0] > 0 ? strongest[1] : null, grip: down(0) };
};

// The moves that are held, the latest last, each until all keys and fingers let it go. The latest
// press goes first until it was asked for, however short it was.
export class Held {
  constructor() {
    this.clear();
  }

  clear() {
    this.holders = new Map();
    this.tapped = null;
    this.grip = false;
    this.since = null;
  }

  get moves() {
    return [...this.holders.values()];
  }

  press(move, now, holder = move) {
    if (this.holders.has(holder)) return;
    this.holders.set(holder, move);
    this.tapped = move;
    this.since ??= now;
  }

  // Whether it held anything.
  release(holder) {
    return this.holders.delete(holder);
  }

  releaseAll() {
    this.holders.clear();
  }

  toggleGrip(now) {
    this.grip = !this.grip;
    this.since ??= now;
  }

  // The model's key for the next latent frame, and when what is new in it was pressed. What was
  // pressed in another world is forgotten.
  take(world) {
    const { rest, grip, moves } = WORLDS[world];
    const isHere = (move) => moves.some(([name]) => name === move);
    this.holders.forEach((move, holder) => { if (!isHere(move)) this.release(holder); });
    if (!isHere(this.tapped)) this.tapped = null;
    const move = this.tapped ?? this.moves.at(-1) ?? rest;
    const taken = { key: move + (grip && this.grip ? '+grip' : ''), since: this.since };
    this.tapped = this.since = null;
    return taken;
  }
}

// What a visitor presses: the pad on the page, the keyboard and a gamepad.

import { GRIP_CODE, WORLDS, keepsKeys, moveOf, padState } from './keys.js';

const LIFTS = ['pointerup', 'pointercancel'];

// Presses and releases moves of `held`, and shows on the page which are held.
export class Pad {
  // isSeen(): whether the tab is shown. isPlaying(): whether a key that no element has is the
  // play's. gone(): called once the element has left the page.
  constructor(element, held, { isSeen, isPlaying, gone }) {
    Object.assign(this, { element, held, isSeen, isPlaying, gone });
    this.world = 'arm';
    this.pressed = { move: null, grip: false }; // of the gamepad
    this.box = element.querySelector('.pad');
    this.listeners = [
      [document, 'keydown', (event) => this.keyDown(event)],
      [document, 'keyup', (event) => this.keyUp(event)],
      [window, 'blur', () => this.letGo()],
      // On the page: the pad may be drawn anew while a button of it is held.
      ...LIFTS.map((name) => [document, name, ({ pointerId }) => this.release(pointerId)]),
      [this.box, 'pointerdown', (event) => this.pointerDown(event)],
      [this.box, 'click', (event) => this.click(event)],
      // A finger that rests on a button would open a menu over the play.
      [this.box, 'contextmenu', (event) => event.preventDefault()],
    ];
    for (const [target, name, listener] of this.listeners) target.addEventListener(name, listener);
  }

  // Listens no more.
  leave() {
    for (const [target, name, listener] of this.listeners) {
      target.removeEventListener(name, listener);
    }
  }

  // The buttons of a world. known: the keys of the model, or null for all of the world's.
  draw(world, known) {
    this.world = world;
    const { moves, grip, hint } = WORLDS[world];
    const made = moves.map(([name, sign, word], place) => {
      const button = this.button(place, sign, word);
      button.dataset.move = name;
      return button;
    }).filter(({ dataset }) => !known || known.includes(dataset.move));
    if (grip) {
      const button = this.button(moves.length, 'Space', 'grip');
      button.className = 'grip';
      button.setAttribute('aria-pressed', String(this.held.grip));
      made.push(button);
    }
    this.box.replaceChildren(...made);
    this.element.querySelector('.hint').textContent = hint;
  }

  button(place, sign, word) {
    const button = document.createElement('button');
    button.type = 'button';
    button.dataset.place = place;
    button.append(sign, document.createElement('span'));
    button.lastChild.textContent = word;
    return button;
  }

  // Shows a key of the model as held.
  light(key) {
    const move = key.replace('+grip', '');
    for (const button of this.box.querySelectorAll('[data-move]')) {
      button.classList.toggle('held', button.dataset.move === move);
    }
    const grip = this.box.querySelector('.grip');
    if (grip) grip.setAttribute('aria-pressed', String(key.endsWith('+grip')));
  }

  lightHeld() {
    this.light((this.held.moves.at(-1) ?? '') + (this.held.grip ? '+grip' : ''));
  }

  press(move, holder) {
    this.held.press(move, performance.now(), holder);
    this.lightHeld();
  }

  release(holder) {
    if (this.held.release(holder)) this.lightHeld();
  }

  toggleGrip() {
    if (!WORLDS[this.world].grip) return;
    this.held.toggleGrip(performance.now());
    this.lightHeld();
  }

  letGo() {
    this.held.releaseAll();
    this.pressed.move = null;
    this.lightHeld();
  }

  // ---- the keyboard

  isMine(event) {
    if (!this.isSeen() || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (keepsKeys(event.target)) return false;
    if (this.element.contains(event.target)) return true;
    return this.isPlaying() && event.target === document.body;
  }

  keyDown(event) {
    if (!this.element.isConnected) { this.gone(); return; }
    if (!this.isMine(event)) return;
    if (event.target.closest('button, summary') && ['Space', 'Enter'].includes(event.code)) return;
    const move = moveOf(this.world, event.code);
    if (move === null && event.code !== GRIP_CODE) return;
    event.preventDefault();
    if (event.repeat) return;
    if (move !== null) this.press(move, event.code); else this.toggleGrip();
  }

  // A Mac tells of no key that is let go while Command is held.
  keyUp({ key, code }) {
    if (key === 'Meta') this.letGo(); else this.release(code);
  }

  // ---- the pad on the page

  pointerDown(event) {
    const button = event.target.closest('button');
    if (!button || event.button !== 0 || button.className === 'grip') return;
    button.setPointerCapture(event.pointerId);
    this.press(button.dataset.move, event.pointerId);
  }

  click(event) {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.classList.contains('grip')) this.toggleGrip();
    else if (event.detail === 0) { // by the keyboard: a press without an end of its own
      this.press(button.dataset.move);
      this.release(button.dataset.move);
    }
  }

  // ---- a gamepad, which has no events and is looked at for every picture

  look() {
    const pad = navigator.getGamepads && [...navigator.getGamepads()]
      .find((found) => found?.mapping === 'standard');
    if (!pad && !this.pressed.move) return;
    // One that was unplugged holds nothing any more.
    const { move, grip } = pad ? padState(this.world, pad) : { move: null, grip: false };
    if (move !== this.pressed.move) {
      this.release('gamepad');
      if (move) this.press(move, 'gamepad');
    }
    if (grip && !this.pressed.grip) this.toggleGrip();
    this.pressed = { move, grip };
  }
}

// What presses and releases the moves of a play, without a page. Run: node --test tests/scripts/

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Held } from '../../app/play/keys.js';
import { Pad } from '../../app/play/pad.js';

// Events with the properties that a browser gives them.
const fire = (target, type, properties) => {
  const event = Object.assign(new Event(type, { cancelable: true }), properties);
  target.dispatchEvent(event);
  return event;
};

// A pad whose buttons are not drawn, on a page without anything else.
const padOf = (t, { isSeen = true, isPlaying = true } = {}) => {
  const before = { document: globalThis.document, window: globalThis.window };
  t.after(() => Object.assign(globalThis, before));
  const body = { closest: () => null };
  globalThis.document = Object.assign(new EventTarget(), { body });
  globalThis.window = new EventTarget();
  const box = Object.assign(new EventTarget(), {
    querySelector: () => null, querySelectorAll: () => [],
  });
  const element = { isConnected: true, querySelector: () => box, contains: () => false };
  const held = new Held(), heard = [];
  const pad = new Pad(element, held, {
    isSeen: () => isSeen, isPlaying: () => isPlaying, gone: () => heard.push('gone'),
  });
  // The event of a key has a target, which Event itself does not let anyone set.
  const key = (type, code, properties) => {
    const event = { code, key: code, target: body, repeat: false, ...properties };
    event.preventDefault = () => { event.defaultPrevented = true; };
    pad[type](event);
    return event;
  };
  return { pad, held, element, heard, body, key };
};

// What the browser says of gamepads from now on.
const plug = (t, pads) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', {
    configurable: true, value: { getGamepads: pads },
  });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else delete globalThis.navigator;
  });
};

test('a key moves from its press to its release, however often it repeats', (t) => {
  const { held, key } = padOf(t);
  assert.ok(key('keyDown', 'ArrowLeft').defaultPrevented);
  assert.ok(key('keyDown', 'ArrowLeft', { repeat: true }).defaultPrevented);
  assert.deepEqual(held.moves, ['left']);
  key('keyDown', 'KeyW');
  assert.deepEqual(held.moves, ['left', 'away']);
  key('keyUp', 'ArrowLeft');
  assert.deepEqual(held.moves, ['away']);
});

test('a finger that rests on the pad opens no menu', (t) => {
  const { pad } = padOf(t);
  assert.ok(fire(pad.box, 'contextmenu').defaultPrevented);
  pad.leave();
  assert.ok(!fire(pad.box, 'contextmenu').defaultPrevented);
});

test('keys of fields, of the browser and of a page that does not play stay theirs', (t) => {
  const { held, key, element } = padOf(t);
  element.contains = () => true;
  const field = { closest: (names) => (names.includes('input') ? field : null) };
  for (const event of [
    key('keyDown', 'KeyA', { target: field }), key('keyDown', 'KeyA', { ctrlKey: true }),
    key('keyDown', 'KeyA', { metaKey: true }), key('keyDown', 'KeyX'),
  ]) assert.ok(!event.defaultPrevented);
  for (const still of [padOf(t, { isPlaying: false }), padOf(t, { isSeen: false })]) {
    assert.ok(!still.key('keyDown', 'ArrowUp').defaultPrevented);
    assert.deepEqual(still.held.moves, []);
  }
  assert.deepEqual(held.moves, []);
});

test('a button that has the focus keeps Space and Enter', (t) => {
  const { held, key, element } = padOf(t);
  element.contains = () => true;
  const button = { closest: (names) => (names.includes('button') ? button : null) };
  assert.ok(!key('keyDown', 'Space', { target: button }).defaultPrevented);
  assert.equal(held.grip, false);
  assert.ok(key('keyDown', 'ArrowUp', { target: button }).defaultPrevented);
});

test('Space closes the grip of an arm, and a camera has none', (t) => {
  const { pad, held, key } = padOf(t);
  key('keyDown', 'Space');
  key('keyDown', 'Space', { repeat: true });
  assert.equal(held.grip, true);
  pad.world = 'camera';
  key('keyDown', 'Space');
  assert.equal(held.grip, true);
});

test('nothing is held once the window lost the focus, or a Mac its Command key', (t) => {
  const { held, key } = padOf(t);
  key('keyDown', 'ArrowLeft');
  fire(globalThis.window, 'blur');
  assert.deepEqual(held.moves, []);
  key('keyDown', 'ArrowUp');
  key('keyUp', 'MetaLeft', { key: 'Meta' });
  assert.deepEqual(held.moves, []);
});

test('each finger lets go of its own button, wherever it is lifted', (t) => {
  const { pad, held } = padOf(t);
  const press = (move, pointerId) => {
    const button = { className: '', dataset: { move }, setPointerCapture: () => {} };
    pad.pointerDown({ target: { closest: () => button }, button: 0, pointerId });
  };
  press('left', 1);
  press('up', 2);
  fire(globalThis.document, 'pointerup', { pointerId: 1 });
  assert.deepEqual(held.moves, ['up']);
  fire(globalThis.document, 'pointercancel', { pointerId: 2 });
  assert.deepEqual(held.moves, []);
});

test('a gamepad that is unplugged holds nothing', (t) => {
  const { pad, held } = padOf(t);
  const stick = { mapping: 'standard', buttons: [], axes: [-1, 0] };
  let plugged = [null, { mapping: '' }, stick];
  plug(t, () => plugged);
  pad.look();
  assert.deepEqual(held.moves, ['left']);
  stick.axes = [0, 1];
  pad.look();
  assert.deepEqual(held.moves, ['near']);
  plugged = [];
  pad.look();
  assert.deepEqual(held.moves, []);
});

test('the grip turns once per press of a gamepad, however long it lasts', (t) => {
  const { pad, held } = padOf(t);
  const stick = { mapping: 'standard', buttons: [{ pressed: true }], axes: [0, 0] };
  plug(t, () => [stick]);
  pad.look();
  pad.look();
  assert.equal(held.grip, true);
  stick.buttons = [{ pressed: false }];
  pad.look();
  stick.buttons = [{ pressed: true }];
  pad.look();
  assert.equal(held.grip, false);
});

test('a pad that has left listens no more, and says so when its element is gone', (t) => {
  const { pad, held, element, heard, key } = padOf(t);
  element.isConnected = false;
  key('keyDown', 'ArrowLeft');
  assert.deepEqual(heard, ['gone']);
  held.press('left', 0, 7);
  pad.leave();
  fire(globalThis.document, 'pointerup', { pointerId: 7 });
  assert.deepEqual(held.moves, ['left']);
});

// Two clips on one clock, on stand-ins for what a page has.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { mount } from '../../app/compare/pair.js';

const SHEETS = { small: [6, 2], large: [20, 4] }; // three frames of 2 x 2 pixels, five of 4 x 4

class Canvas {
  ink = {
    drawn: [],
    drawImage(...values) { this.drawn.push(values); },
    getImageData: (x, y, w, h) => ({ data: new Uint8ClampedArray(4 * w * h) }),
    createImageData: (w, h) => ({ data: new Uint8ClampedArray(4 * w * h) }),
    putImageData() {},
  };
  getContext() { return this.ink; }
  setAttribute() {}
}

const mounted = (t, { still = true } = {}) => {
  const canvases = [1, 2, 3].map(() => new Canvas()), parts = {}, frames = [];
  const figures = canvases.map((canvas) => (
    { querySelector: (name) => (name === 'canvas' ? canvas : {}) }));
  const element = {
    isConnected: true, checkVisibility: () => true, querySelectorAll: () => figures,
    querySelector: (name) => (parts[name] ??= { value: '1', addEventListener() {} }),
  };
  const globals = {
    Image: class {
      decode() { [this.width, this.height] = SHEETS[this.src]; }
    },
    matchMedia: () => ({ matches: still }),
    requestAnimationFrame: (tick) => frames.push(tick),
  };
  t.mock.method(performance, 'now', () => 0);
  Object.assign(globalThis, globals);
  t.after(() => Object.keys(globals).forEach((name) => { delete globalThis[name]; }));
  const props = {};
  let changed = null;
  mount({ element, props, watch: (name, call) => { changed = call; } });
  return {
    canvases, parts, element,
    choose: (...names) => {
      const clips = names.map((name) => ({ title: name, frames: name }));
      props.value = names.length ? { clips, fps: 8 } : {};
      return changed();
    },
    frame: (time) => frames.splice(0).forEach((tick) => tick(time)),
  };
};

test('clips of two sizes are both drawn whole, in the larger size', async (t) => {
  const { canvases, parts, choose } = mounted(t);
  await choose('small', 'large');
  assert.deepEqual(canvases.map(({ width, height }) => [width, height]), Array(3).fill([4, 4]));
  const places = canvases.slice(0, 2).map(({ ink }) => ink.drawn.at(-1).slice(1));
  assert.deepEqual(places, [[0, 0, 2, 2, 0, 0, 4, 4], [0, 0, 4, 4, 0, 0, 4, 4]]);
  assert.equal(parts['.seek'].max, 4, 'five frames');
});

test('a frame is drawn once, however often the screen is', async (t) => {
  const { canvases: [left], choose, frame } = mounted(t, { still: false });
  await choose('large', 'large');
  const before = left.ink.drawn.length;
  for (let time = 10; time <= 260; time += 10) frame(time);
  assert.equal(left.ink.drawn.length - before, 2, 'a quarter of a second has two frames');
});

test('clips that were taken away while they were loaded are not played', async (t) => {
  const { canvases: [left], parts, element, choose } = mounted(t, { still: false });
  const loading = choose('large', 'large');
  choose();
  await loading;
  assert.ok(element.hidden);
  assert.equal(left.ink.drawn.length, 0);
  assert.equal(parts['.play'].textContent, undefined);
});

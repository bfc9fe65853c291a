// What the page's scripts compute, without a page. Run: node --test tests/scripts/

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isChosen, pixelsOf } from '../../app/attention/heads.js';
import { neighbour, tint } from '../../app/attention/look.js';
import { lastKeys, levelColours, readableTicks, weightOf } from '../../app/attention/map.js';
import {
  cornerOf, fieldOf, madeBefore, placeWords, shownLength, stepOf, stepWords,
} from '../../app/how/picture.js';
import {
  boxOf, legendWords, momentOf, tokenWords,
} from '../../app/generate/preview.js';
import { framesWords, latentOf, latentsOf } from '../../app/parts/clip.js';
import { differ, GAIN } from '../../app/compare/pair.js';
import { heir } from '../../app/generate/gallery.js';
import { remembered, tabOf } from '../../app/studio.js';
import { containedBox, dragged, squareAt } from '../../app/parts/crop.js';
import { firstStop, placeOf, STOPS } from '../../app/parts/tour.js';
import { bytesOf, cellAt, cellOf, clamp, countUntil, player } from '../../app/parts/page.js';

const GREYS = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));

test('bytes come out as they went in', () => {
  assert.deepEqual([...bytesOf('AAH/')], [0, 1, 255]);
});

test('a pointer outside a box counts for the cell at its edge', () => {
  const box = { left: 10, top: 20, width: 160, height: 160 };
  assert.deepEqual(cellAt(10, 20, box, 16, 16), [0, 0]);
  assert.deepEqual(cellAt(35, 179.9, box, 16, 16), [15, 2]);
  assert.deepEqual(cellAt(-5, 999, box, 16, 16), [15, 0]);
  assert.equal(clamp(5, 0, 3), 3);
});

test('a player advances by the time that passed until it pauses or its element is gone', (t) => {
  const waiting = [], seconds = [];
  let isShown = true;
  t.mock.method(performance, 'now', () => 1000);
  globalThis.requestAnimationFrame = (tick) => waiting.push(tick);
  t.after(() => { delete globalThis.requestAnimationFrame; });
  const frame = (time) => waiting.splice(0).forEach((tick) => tick(time));
  const element = { isConnected: true, checkVisibility: () => isShown };
  const clock = player(element, (passed) => seconds.push(passed));
  frame(1000);
  assert.deepEqual(seconds, [], 'it stands until it is played');
  clock.play(true);
  clock.play(true);
  frame(1100);
  frame(9000);
  assert.deepEqual(seconds, [.1, .25], 'once a frame, and a long gap counts for a quarter');
  clock.play(false);
  frame(9100);
  assert.equal(waiting.length, 0);
  clock.play(true);
  isShown = false;
  frame(9150);
  assert.equal(seconds.length, 2, 'it waits while nobody sees it');
  element.isConnected = false;
  frame(9200);
  assert.equal(seconds.length, 2);
  assert.equal(waiting.length, 0);
});

test('a player goes on after a picture that failed', (t) => {
  const waiting = [];
  t.mock.method(performance, 'now', () => 1000);
  globalThis.requestAnimationFrame = (tick) => waiting.push(tick);
  t.after(() => { delete globalThis.requestAnimationFrame; });
  const frame = (time) => waiting.splice(0).forEach((tick) => tick(time));
  let isBroken = true, drawn = 0;
  const clock = player({ isConnected: true, checkVisibility: () => true }, () => {
    if (isBroken) throw new Error('a picture that failed');
    drawn += 1;
  });
  clock.play(true);
  assert.throws(() => frame(1100), /a picture that failed/);
  isBroken = false;
  clock.play(true);
  frame(1200);
  assert.equal(drawn, 1, 'once a frame');
});

test('levels are weights on a log scale over four decades', () => {
  assert.equal(weightOf(255, 4), 1);
  assert.ok(Math.abs(weightOf(1, 4) - 1e-4) < 1e-12);
});

test('dimming by ten on a log scale of four decades moves a quarter of the levels', () => {
  const colours = Uint32Array.from({ length: 256 }, (_, level) => level);
  const scale = { colours, decades: 4, isLog: true, top: 1 };
  const plain = levelColours({ ...scale, divisor: 1 });
  const dimmed = levelColours({ ...scale, divisor: 10 });
  assert.deepEqual([...plain], [...colours]);
  assert.equal(dimmed[255], 192);
  assert.equal(dimmed[0], 0);
  assert.equal(dimmed[10], 0, 'nothing is dimmed below the darkest colour');
});

test('a linear scale is brightest from its top on', () => {
  const colours = Uint32Array.from({ length: 256 }, (_, level) => level);
  const linear = levelColours({ colours, decades: 4, isLog: false, top: .1, divisor: 1 });
  assert.equal(linear[255], 255);
  assert.equal(linear[192], 255);
  assert.ok(linear[128] < 60);
});

test('a query sees keys up to the end of its own block', () => {
  assert.deepEqual([...lastKeys(7, [0, 1, 4, 7])], [1, 4, 4, 4, 7, 7, 7]);
});

test('ticks of frames come first, rows only where there is room', () => {
  const ticks = [[0, 't1', true], [10, 'h5', false], [40, 'h9', false], [64, 't2', true]];
  assert.deepEqual(readableTicks(ticks, 1).map((tick) => tick[1]), ['t1', 't2', 'h9']);
  assert.deepEqual(readableTicks(ticks, .25).map((tick) => tick[1]), ['t1']);
});

test('a mean is a choice of all heads of its layer', () => {
  assert.ok(isChosen({ layer: 1, head: 'mean' }, 1, 3));
  assert.ok(isChosen({ layer: 1, head: 3 }, 1, 3));
  assert.ok(!isChosen({ layer: 1, head: 2 }, 1, 3));
  assert.ok(!isChosen({ layer: 0, head: 'mean' }, 1, 3));
});

test('levels become opaque pixels', () => {
  assert.deepEqual([...pixelsOf(Uint8Array.of(0, 200), GREYS)], [0, 0, 0, 255, 200, 200, 200, 255]);
});

test('a weight is tinted by the root of its share', () => {
  assert.equal(tint(0, GREYS), 'rgba(0, 0, 0, 0.350)');
  assert.equal(tint(.25, GREYS), 'rgba(128, 128, 128, 0.575)');
  assert.equal(tint(1, GREYS), 'rgba(255, 255, 255, 0.800)');
});

test('an arrow key moves the chosen token and stays in the frame', () => {
  assert.deepEqual(neighbour([2, 5, 15], 2, [5, 16, 16], [0, 1]), [2, 5, 15]);
  assert.deepEqual(neighbour([2, 5, 15], 2, [5, 16, 16], [-1, 0]), [2, 4, 15]);
  assert.deepEqual(neighbour([2, 5, 15], 3, [5, 16, 16], [1, 0]), [3, 1, 0]);
});

test('times that have come are counted', () => {
  const times = [.1, .2, .2, .5];
  assert.deepEqual([0, .1, .2, .4, 9].map((limit) => countUntil(times, limit)), [0, 1, 3, 3, 4]);
  assert.equal(countUntil([], 1), 0);
});

test('latent frames lie side by side with a cell between them', () => {
  const grid = [5, 16, 16];
  assert.deepEqual(cellOf(0, grid, 3), [0, 0]);
  assert.deepEqual(cellOf(256 + 17, grid, 3), [18, 1]);
  assert.deepEqual(cellOf(3 * 256, grid, 3), [0, 17]);
});

// Two latent frames of 1 x 2 tokens in rows: BOV and a condition, then token by token.
const PLAN = {
  name: 'row 1x1x2', grid: [2, 1, 2], blocks: [[0, 1], [2, 3]], known: 0, head: 3,
  steps: [['prefill', 0, 2, 1], ['token', 2, 3, 1], ['block', 3, 5, 2]],
  place: [-1, -1, 0, 1, 0], kind: [2, 2, 0, 0, 1], target: [-1, 0, 1, 2, 3],
  segment: [0, 1, 2, 3, 3],
};

test('a step feeds positions and makes the last of them', () => {
  assert.deepEqual(stepOf(PLAN, 3), { phase: 'block', start: 3, stop: 5, count: 2, from: 3 });
  assert.deepEqual([...madeBefore(PLAN, 3)], [[0, 1], [1, 2]]);
  assert.deepEqual([...madeBefore({ ...PLAN, known: 1 }, 1)], [[0, 0], [1, 0]]);
});

test('a step is told in words', () => {
  assert.equal(stepWords(PLAN, 1, 1),
    'Step 1 of 3: one token of block 1. The begin-of-video token predicts it, after the'
    + ' condition.');
  assert.match(stepWords(PLAN, 3, 3), /block 2 of 2, 2 tokens at once.*1 placeholders/);
  assert.match(stepWords(PLAN, 3, 3),
    /Arrow: latent frame 1, row 1, column 2 to latent frame 2, row 1/);
});

test('frames wrap where the page is narrow', () => {
  const wide = fieldOf([5, 16, 16], 900), narrow = fieldOf([5, 16, 16], 360);
  assert.deepEqual([wide.columns, narrow.columns], [5, 2]);
  assert.ok(5 * 16 * wide.cell <= 900);
  const { x, y } = cornerOf(2 * 256, [5, 16, 16], narrow);
  assert.equal(x, 0);
  assert.ok(y > 16 * narrow.cell);
  assert.equal(placeWords(256 + 18, [5, 16, 16]), 'latent frame 2, row 2, column 3');
});

test('the mask is shown whole or from its beginning', () => {
  assert.equal(shownLength({ ...PLAN, segment: Array(100) }, false), 100);
  assert.equal(shownLength({ ...PLAN, segment: Array(100) }, true), 24);
  assert.equal(shownLength(PLAN, true), 5);
});

test('the address names the open tab and keeps the rest', () => {
  const address = 'http://localhost:7860/studio/?__theme=dark&tab=generate#top';
  const kept = 'http://localhost:7860/studio/?__theme=dark&tab=compare#top';
  assert.equal(remembered(address, 'compare'), kept);
  assert.deepEqual([tabOf(kept), tabOf('http://localhost/#top')], ['compare', 'generate']);
});

// Two frames of 1 x 2 tokens, the first of them given, in three steps of which one makes nothing.
const CLIP = {
  grid: [2, 1, 2], factor: 4, step: [-1, -1, 1, 2], step_s: [.1, .2, .4], frame_s: [.1, .4],
  tokens: [7, 8, 9, 4321], codes: 4375, patch: 8,
};

test('a frame lies in the latent frame of its four', () => {
  assert.deepEqual([0, 1, 4, 5, 16].map((frame) => latentOf(frame, 4)), [0, 1, 1, 2, 4]);
  assert.equal(framesWords(0, 4), 'frame 1');
  assert.equal(framesWords(4, 4), 'frames 14 to 17');
});

test('the making has its steps and frames at their times', () => {
  const clip = { ...CLIP, latents: latentsOf(CLIP) };
  assert.deepEqual(clip.latents, [0, 1, 1]);
  assert.deepEqual(momentOf(clip, 0), { steps: 0, frame: -1, latent: 0 });
  assert.deepEqual(momentOf(clip, .2), { steps: 2, frame: 0, latent: 1 });
  assert.deepEqual(momentOf(clip, 9), { steps: 3, frame: 1, latent: 1 });
  assert.equal(boxOf(clip, 1, 2), 'M1 0H2V1H1Z');
  assert.equal(boxOf(clip, 0, 2), '');
});

test('a token is read with its code, step and probability', () => {
  assert.equal(tokenWords(CLIP, 0, [0, 1], null),
    'Row 1, column 2, frame 1: code 8, encoded from your input.');
  assert.match(tokenWords(CLIP, 1, [0, 1], null), /code 4,321, made at step 3 of 3\. Computing/);
  const odds = { probability: [null, null, .5, .0123] };
  assert.match(tokenWords(CLIP, 1, [0, 1], odds),
    /with probability 1\.23 %\. The likeliest codes:/);
  assert.match(tokenWords(CLIP, 1, [0, 0], { note: 'Busy.' }), /at step 2 of 3\. Busy\.$/);
  assert.match(tokenWords(CLIP, 1, [0, 0], { note: '' }), /at step 2 of 3\./, 'no note, no odds');
  assert.match(legendWords(CLIP), /one of 4,375 codes and stands for 8x8 pixels over 4 frames/);
});

test('a card of the tour stands where there is room', () => {
  const page = { width: 400, height: 800 }, card = { width: 300, height: 150 };
  assert.deepEqual(placeOf({ left: 50, top: 0, bottom: 100 }, card, page), { left: 50, top: 108 });
  assert.deepEqual(placeOf({ left: 350, top: 600, bottom: 700 }, card, page),
    { left: 92, top: 442 });
  assert.deepEqual(placeOf({ left: -9, top: 9, bottom: 790 }, card, page), { left: 8, top: 8 });
});

test('a tour begins where it was left, and anew once it was finished', () => {
  assert.equal(STOPS.length, 8);
  assert.ok(['Compare', 'Attention', 'How it works'].every((tab) =>
    STOPS.some(([target]) => target === `tab:${tab}`)));
  assert.deepEqual([null, '3', 'done', '99', '-1'].map((kept) => firstStop(kept, 8)),
    [0, 3, 0, 0, 0]);
});

test('a difference is the mean of all three colours and is shown brighter', () => {
  const a = new Uint8ClampedArray([10, 20, 30, 255, 200, 0, 0, 255]);
  const b = new Uint8ClampedArray([10, 23, 24, 255, 0, 0, 0, 255]);
  const out = new Uint8ClampedArray(8);
  assert.equal(differ(a, b, out), (3 + 6 + 200) / 6);
  assert.deepEqual([...out], [0, 3 * GAIN, 6 * GAIN, 255, 255, 0, 0, 255]);
  assert.equal(differ(a, a, out), 0);
});

test('the card after a deleted one takes its focus, at the end the one before', () => {
  assert.equal(heir(0, 3), 0);
  assert.equal(heir(2, 3), 1);
  assert.equal(heir(0, 1), 0);
});

test('the square of a picture lies where its slider says, along the longer side', () => {
  assert.deepEqual(containedBox(200, 100, { left: 10, top: 0, width: 100, height: 100 }),
    [10, 25, 100, 50]);
  assert.deepEqual(containedBox(50, 50, { left: 10, top: 0, width: 100, height: 100 }, 1),
    [35, 25, 50, 50]);
  assert.deepEqual(squareAt(300, 100, .5), [100, 0, 100]);
  assert.deepEqual(squareAt(100, 300, 1), [0, 200, 100]);
  assert.equal(dragged(300, 100, .5, 50, 999), .75);
  assert.equal(dragged(100, 300, .5, 999, -50), .25);
  assert.equal(dragged(300, 100, .5, 999, 0), 1);
  assert.equal(dragged(100, 100, .5, 40, 40), .5);
});

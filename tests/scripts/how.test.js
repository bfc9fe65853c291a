// What the six steps of How it works compute, without a page. Run: node --test tests/scripts/

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  blockOf, cutWords, digitsOf, firstShown, framesOf, groupWords, join, legendWords, madeWords,
  readyOf, readyWords, seenFrom, stepPlaces, tokenWords, windowOf,
} from '../../app/how/places.js';
import { split } from '../../app/parts/clip.js';

// Two latent frames of 2 x 2, in rows: one condition, BOV, two tokens, a placeholder, two rows.
const ROWS = {
  shape: '1x1x2', block_len: 2, steps: 5,
  place: [-1, -1, 0, 1, -1, 2, 3, 4, 5],
  ends: [1, 2, 3, 5, 5, 7, 7, 9, 9],
  query: [1, 2, 3, 4, 5, 6, 7, 8],
};
const CLIP = {
  grid: [2, 2, 2], factor: 4, num_frames: 5, patch: 8, codes: 4375, levels: [7, 5, 5, 5, 5],
  tokens: [0, 1, 7, 2546, 4, 5, 6, 4374], step: [0, 1, 2, 2, 3, 3, 4, 4],
  step_s: [.1, .2, .3, .4, .5], frame_s: [.3, .6, .6, .6, .6], cuts: [ROWS],
};

test('a code is its levels, the first counting by ones', () => {
  assert.deepEqual(digitsOf(2546, [7, 5, 5, 5, 5]), [5, 3, 2, 4, 2]);
  assert.deepEqual(digitsOf(4374, [7, 5, 5, 5, 5]), [6, 4, 4, 4, 4]);
  assert.equal(5 + 7 * (3 + 5 * (2 + 5 * (4 + 5 * 2))), 2546);
});

test('places and cells are each other', () => {
  for (let place = 0; place < 8; place++) {
    assert.equal(join(split(place, CLIP.grid), CLIP.grid), place);
  }
});

test('the first latent frame is one frame, later ones are four', () => {
  assert.deepEqual([0, 1, 2].map((latent) => framesOf(latent, 4)), [[0, 1], [1, 5], [5, 9]]);
  assert.deepEqual([0, 4, 8, 16].map((latent) => firstShown(latent, 17)), [0, 2, 6, 12]);
  assert.equal(groupWords(CLIP, 0), 'Frame 1 of 5 becomes latent frame 1 of 2.');
  assert.equal(groupWords(CLIP, 1), 'Frames 2 to 5 of 5 become latent frame 2 of 2.');
});

test('a token is in one block of its latent frame', () => {
  assert.deepEqual(blockOf([2, 9, 4], '1x1x16'), [9, 0, 1, 16]);
  assert.deepEqual(blockOf([2, 9, 4], '1x4x4'), [8, 4, 4, 4]);
  assert.deepEqual(blockOf([0, 3, 4], '2x2x2'), [0, 4, 4, 2], 'over time: stacked in the first');
});

test('a query sees its own block to the end and all before it', () => {
  // Place 4, of the first row of frame 2, is predicted by the token of place 2.
  const seen = seenFrom(ROWS, 4);
  assert.deepEqual([seen.query, seen.end], [5, 7]);
  assert.deepEqual([...seen.places], [0, 1, 2, 3]);
  assert.equal(seenFrom(ROWS, 99), null, 'a longer clip goes beyond the grid that is cut');
});

test('the large part of a mask holds eight blocks around the query', () => {
  const cut = { ends: Array(1000).fill(0), block_len: 16 };
  assert.deepEqual(windowOf(cut, 500), [436, 564]);
  assert.deepEqual(windowOf(cut, 3), [0, 128]);
  assert.deepEqual(windowOf(cut, 999), [872, 1000]);
  assert.deepEqual(windowOf({ ends: Array(9).fill(0), block_len: 2 }, 4), [0, 9]);
});

test('a step knows what it wrote and from what', () => {
  assert.deepEqual(stepPlaces(CLIP, ROWS, 3), { made: [4, 5], fed: [2, 3] });
  assert.deepEqual(stepPlaces(CLIP, ROWS, 0), { made: [0], fed: [] });
  assert.deepEqual(stepPlaces(CLIP, ROWS, 2), { made: [2, 3], fed: [1] });
  assert.equal(madeWords(CLIP, 3, stepPlaces(CLIP, ROWS, 3)),
    'Step 4 of 5: 2 tokens in orange, predicted from the tokens in green.');
  assert.match(madeWords(CLIP, 3, stepPlaces(CLIP, { query: [0] }, 3)), /from the block before/);
  assert.match(madeWords(CLIP, 0, stepPlaces(CLIP, ROWS, 0)), /one token .* the start of the/);
});

test('one token of a block that is half placeholders is one green token', () => {
  const { made, fed } = stepPlaces(CLIP, ROWS, 2);
  assert.match(madeWords(CLIP, 2, { made, fed }), /the token in green and from placeholders/);
});

test('a token says where it is and what it is', () => {
  assert.equal(tokenWords(CLIP, 3), 'Row 2, column 2, frame 1: token 2,546 of 4,375'
    + ' (levels 5, 3, 2, 4, 2 of 7, 5, 5, 5, 5).');
  assert.equal(tokenWords({ ...CLIP, levels: [] }, 7), 'Row 2, column 2, frames 2 to 5: token 4,374'
    + ' of 4,375.');
});

test('a cut says its steps, and what was given', () => {
  assert.equal(cutWords(CLIP, ROWS), 'Blocks of 2 tokens: 8 tokens in 5 steps.');
  const given = { ...CLIP, step: [-1, -1, -1, -1, 0, 0, 1, 1] };
  assert.equal(cutWords(given, { ...ROWS, steps: 2 }),
    'Blocks of 2 tokens: 4 tokens in 2 steps after the 4 that were given.');
  assert.match(readyWords(given, 0), /You gave frame 1/);
  const long = { ...CLIP, grid: [6, 2, 2], step: Array.from({ length: 24 }, (_, i) => i >> 1) };
  assert.equal(cutWords(long, ROWS),
    'Blocks of 2 tokens: 20 tokens of the first 17 frames in 5 steps.');
  assert.equal(legendWords(long), 'Block, with the steps of the first 17 frames');
  assert.equal(legendWords(CLIP), 'Block');
});

test('frames are ready after the last token of their latent frame', () => {
  assert.deepEqual(readyOf(CLIP, 0), { tokens: .3, frames: .3 });
  assert.deepEqual(readyOf(CLIP, 1), { tokens: .5, frames: .6 });
  assert.match(readyWords(CLIP, 1), /came at 0.50 s; frames 2 to 5 were ready by 0.60 s/);
});

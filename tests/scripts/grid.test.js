// The plain functions of the grid of clips.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { framesAt } from '../../app/compare/clock.js';
import { cellAfter } from '../../app/compare/grid/grid.js';

test('clips of one length run together and begin again together', () => {
  assert.deepEqual(framesAt(0, [17, 17]), [0, 0]);
  assert.deepEqual(framesAt(16.9, [17, 17]), [16, 16]);
  assert.deepEqual(framesAt(17, [17, 17]), [0, 0]);
});

test('a shorter clip waits on its last frame', () => {
  assert.deepEqual(framesAt(7.2, [17, 5]), [7, 4]);
  assert.deepEqual(framesAt(18, [17, 5]), [1, 1]);
});

test('arrow keys lead to the neighbours and never out of the grid', () => {
  assert.equal(cellAfter(0, 'ArrowRight', 5, 3), 1);
  assert.equal(cellAfter(1, 'ArrowDown', 5, 3), 4);
  assert.equal(cellAfter(2, 'ArrowDown', 5, 3), 2);
  assert.equal(cellAfter(4, 'ArrowUp', 5, 3), 1);
  assert.equal(cellAfter(0, 'ArrowLeft', 5, 3), 0);
  assert.equal(cellAfter(3, 'Home', 5, 3), 0);
  assert.equal(cellAfter(3, 'End', 5, 3), 4);
});

test('other keys are left to the page', () => {
  assert.equal(cellAfter(1, 'Enter', 5, 3), null);
  assert.equal(cellAfter(1, 'Tab', 5, 3), null);
});

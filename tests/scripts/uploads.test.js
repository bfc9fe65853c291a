// What uploads call their files. Run: node --test tests/scripts/

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { kindOf, typed } from '../../app/parts/uploads.js';

test('an upload takes pictures, clips or neither', () => {
  assert.equal(kindOf('image/*'), 'image');
  assert.equal(kindOf('video/x-m4v, video/*,.mov'), 'video');
  for (const other of ['.json,.mp4', '', null, undefined]) assert.equal(kindOf(other), null);
});

test('a file of no known type is called what its upload takes', async () => {
  const heic = new File(['abc'], 'IMG 1.HEIC', { lastModified: 5 });
  const named = typed(heic, 'image');
  assert.equal(named.type, 'image/unknown');
  assert.deepEqual([named.name, named.lastModified, await named.text()], ['IMG 1.HEIC', 5, 'abc']);
  const stream = new File([], 'a.ts', { type: 'text/texmacs' });
  assert.equal(typed(stream, 'video').type, 'video/unknown');
  const png = new File([], 'a.png', { type: 'image/png' });
  assert.equal(typed(png, 'image'), png);
});

// What the Play tab's scripts compute, without a page. Run: node --test tests/scripts/

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Clock, Delay, FRAME_MS, Recent } from '../../app/play/clock.js';
import {
  blockOf, curvePoints, curveWords, driftWords, figuresLine, keepSharpness, reachWords,
  slowWords,
} from '../../app/play/figures.js';
import { Held, WORLDS, keepsKeys, moveOf, padState } from '../../app/play/keys.js';
import { Changes, Connection, readFrames, socketAddress } from '../../app/play/wire.js';

const HEADER = {
  number: 0, sample_ms: 40, decode_ms: 30, wait_ms: 1, way_ms: 9, steps: 16, players: 1,
};

// Runs a clock over the ticks of a display of 60 Hz; latent frames come when `arrivals` says so.
const run = (clock, arrivals, until, look = () => {}) => {
  const shown = [];
  for (let now = 0; now <= until; now += 1000 / 60) {
    while (arrivals.length && arrivals[0][0] <= now) clock.push(arrivals.shift()[1]);
    const next = clock.next(now);
    if (next) shown.push([now, next.frame]);
    look(now);
  }
  return shown;
};
const latents = (count, time) => Array.from({ length: count }, (_, k) => (
  [time(k), [0, 1, 2, 3].map((i) => 4 * k + i)]));

test('the page says when the arm is at the end of its reach', () => {
  assert.match(reachWords({ ...HEADER, is_out: true }), /no further/);
  assert.equal(reachWords({ ...HEADER, is_out: false }), '');
  assert.equal(reachWords(null), '');
});

test('frames that come in time are shown evenly, sixteen a second', () => {
  const clock = new Clock();
  const shown = run(clock, latents(16, (k) => 250 * k - 40), 4000);
  assert.deepEqual(shown.map(([, frame]) => frame), [...Array(64).keys()]);
  const gaps = shown.slice(1).map(([now], i) => now - shown[i][0]);
  assert.ok(Math.max(...gaps) < FRAME_MS + 18, String(Math.max(...gaps)));
  assert.deepEqual([clock.late, clock.dropped], [0, 0]);
});

// The rates that a page would write between two times, while latent frames come every `every` ms.
const rates = (every, from, until, first = every) => {
  const clock = new Clock(), seen = [];
  // The frame that a play begins with comes before any key.
  const arrivals = [[0, [-1]], ...latents(99, (k) => first + every * k)];
  run(clock, arrivals, until, (now) => { if (now >= from) seen.push(clock.rate(now)); });
  return seen;
};

test('the rate is right at every moment, however long a latent frame takes', () => {
  for (const every of [250, 300, 600, 1000, 1300, 2300, 5000]) {
    const seen = rates(every, 2500 + 2 * every, 2500 + 6 * every), truth = 4000 / every;
    for (const rate of [Math.min(...seen), Math.max(...seen)]) {
      assert.ok(Math.abs(rate / truth - 1) < .04, `${rate} instead of ${truth}`);
    }
  }
});

test('the rate is right from the first latent frame on', () => {
  const seen = rates(250, 0, 4000, 20).filter((rate) => rate !== null);
  assert.ok(seen.length > 210);
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  assert.ok(low > 15 && high < 17.2, `${low} to ${high}`);
});

test('there is no rate before a whole latent frame has been waited for', () => {
  const seen = rates(5000, 0, 9000);
  assert.ok(seen.slice(0, 300).every((rate) => rate === null));
  assert.ok(seen.slice(320).every((rate) => Math.abs(rate - .8) < .04), String(seen.at(-1)));
  assert.equal(new Clock().rate(0), null);
});

test('the rate sinks while an answer fails to come, and begins anew after a pause', () => {
  const clock = new Clock();
  run(clock, latents(16, (k) => 250 * k), 4000);
  assert.ok(Math.abs(clock.rate(4000) - 16) < .6);
  assert.ok(clock.rate(8000) < 8);
  assert.ok(clock.rate(60_000) < 1);
  clock.rest();
  assert.equal(clock.rate(60_000), null);
  clock.push([0, 1, 2, 3]);
  clock.next(60_000);
  assert.equal(clock.rate(62_000), null, 'one answer alone has no rate');
});

test('answers that end in one moment have no rate', () => {
  const clock = new Clock();
  clock.push([0, 1]);
  clock.push([2]);
  clock.next(0);
  clock.next(5000);
  assert.deepEqual([clock.dropped, clock.rate(5000)], [1, null]);
});

test('frames that were skipped are not counted as shown', () => {
  const clock = new Clock();
  for (let k = 0; k < 20; k++) {
    clock.push([0, 1, 2, 3]);
    clock.next(250 * k);
    clock.next(250 * k + 240);
  }
  assert.ok(Math.abs(clock.rate(4800) - 8) < .5, String(clock.rate(4800)));
});

test('where frames come late the clock stands, and nothing is skipped', () => {
  const clock = new Clock();
  const shown = run(clock, latents(4, (k) => 1000 * k), 4000);
  assert.deepEqual(shown.map(([, frame]) => frame), [...Array(16).keys()]);
  assert.equal(clock.dropped, 0);
  assert.equal(clock.late, 3);
  assert.ok(Math.abs(clock.rate(4000) - 4) < .2, String(clock.rate(4000)));
});

test('where the page was busy the clock catches up by skipping', () => {
  const clock = new Clock();
  clock.push([0, 1, 2, 3]);
  assert.equal(clock.next(0).frame, 0);
  const { frame, skipped } = clock.next(200);
  assert.deepEqual([frame, skipped, clock.dropped], [3, [1, 2], 2]);
});

test('after a pause nothing is late', () => {
  const clock = new Clock();
  clock.push([0]);
  clock.next(0);
  clock.rest();
  clock.push([1]);
  assert.equal(clock.next(90_000).frame, 1);
  assert.deepEqual([clock.late, clock.dropped], [0, 0]);
});

test('what is left lasts a frame each', () => {
  const clock = new Clock();
  assert.equal(clock.left(5), 0);
  clock.push([0, 1, 2, 3]);
  clock.next(100);
  assert.equal(clock.left(100), 4 * FRAME_MS);
  assert.equal(clock.left(100 + FRAME_MS), 3 * FRAME_MS);
});

test('the next latent frame is asked for as early as nearly all answers need', () => {
  const delay = new Delay();
  assert.equal(delay.ahead, Infinity);
  delay.add(5000);
  for (let i = 0; i < 11; i++) delay.add(50 + i);
  assert.ok(delay.ahead < 80, 'a single slow answer does not count');
  for (let i = 0; i < 12; i++) delay.add(200);
  assert.equal(delay.ahead, 210);
});

test('the middle and the mean of the latest values', () => {
  const recent = new Recent(3);
  assert.deepEqual([recent.median, recent.mean], [null, null]);
  [900, 10, 30, 20].forEach((value) => recent.add(value));
  assert.deepEqual([recent.median, recent.mean], [20, 20]);
});

test('every world has a move for each pair of keys', () => {
  assert.equal(moveOf('arm', 'ArrowUp'), 'away');
  assert.equal(moveOf('arm', 'KeyS'), 'near');
  assert.equal(moveOf('arm', 'PageUp'), 'up');
  assert.equal(moveOf('camera', 'KeyA'), 'pan-left');
  assert.equal(moveOf('camera', 'KeyE'), 'turn-right');
  assert.equal(moveOf('arm', 'KeyE'), null);
  for (const { moves } of Object.values(WORLDS)) {
    const codes = moves.flatMap(([, , , own]) => own);
    assert.equal(new Set(codes).size, codes.length);
  }
});

test('the latest key that is held counts', () => {
  const held = new Held();
  assert.deepEqual(held.take('arm'), { key: 'stay', since: null });
  held.press('left', 10);
  held.press('left', 11);
  held.press('up', 12);
  assert.deepEqual(held.take('arm'), { key: 'up', since: 10 });
  held.release('up');
  assert.deepEqual(held.take('arm'), { key: 'left', since: null });
  held.releaseAll();
  assert.deepEqual(held.take('arm').key, 'stay');
});

test('a move is held until everything that holds it lets go', () => {
  const held = new Held();
  held.press('left', 1, 'ArrowLeft');
  held.press('left', 2, 'KeyA');
  held.press('left', 3, 7); // a finger on the pad
  for (const holder of ['KeyA', 7]) {
    assert.ok(held.release(holder));
    assert.equal(held.take('arm').key, 'left');
  }
  assert.ok(!held.release(7), 'it holds nothing any more');
  held.release('ArrowLeft');
  assert.equal(held.take('arm').key, 'stay');
});

test('a short press is not lost, and counts once', () => {
  const held = new Held();
  held.press('near', 5);
  held.release('near');
  assert.deepEqual(held.take('arm'), { key: 'near', since: 5 });
  assert.deepEqual(held.take('arm'), { key: 'stay', since: null });
});

test('a short press counts while another move is held, which then goes on', () => {
  const held = new Held();
  held.press('left', 5);
  held.take('arm');
  held.press('up', 8);
  held.release('up');
  assert.deepEqual(held.take('arm'), { key: 'up', since: 8 });
  assert.deepEqual(held.take('arm'), { key: 'left', since: null });
  held.press('near', 9);
  assert.deepEqual(held.take('arm'), { key: 'near', since: 9 });
  assert.equal(held.take('arm').key, 'near', 'what is held longer is no short press');
});

test('what was pressed in one world is no key of another', () => {
  const held = new Held();
  held.press('left', 1);
  held.release('left');
  held.press('away', 2);
  assert.equal(held.take('camera').key, 'still');
  assert.equal(held.take('arm').key, 'stay', 'the key that was held is forgotten');
  held.press('pan-left', 3);
  assert.equal(held.take('camera').key, 'pan-left');
});

test('the grip stays as it was set, and only the arm has one', () => {
  const held = new Held();
  held.toggleGrip(7);
  assert.deepEqual(held.take('arm'), { key: 'stay+grip', since: 7 });
  held.press('left', 8);
  assert.equal(held.take('arm').key, 'left+grip');
  held.press('pan-left', 9);
  assert.equal(held.take('camera').key, 'pan-left');
  held.releaseAll();
  assert.equal(held.take('camera').key, 'still');
});

const gamepad = (axes, ...down) => (
  { axes, buttons: Array.from({ length: 16 }, (_, i) => ({ pressed: down.includes(i) })) });

test('a gamepad moves by its sticks, its cross and its shoulders', () => {
  assert.deepEqual(padState('arm', gamepad([0, 0, 0, 0])), { move: null, grip: false });
  assert.equal(padState('arm', gamepad([-.9, .5, 0, 0])).move, 'left');
  assert.equal(padState('arm', gamepad([.1, -.8, 0, 0])).move, 'away');
  assert.equal(padState('arm', gamepad([0, 0, 0, -.7])).move, 'up');
  assert.equal(padState('arm', gamepad([0, 0, 0, 0], 13)).move, 'near');
  assert.equal(padState('camera', gamepad([0, 0, 0, 0], 15)).move, 'pan-right');
  assert.equal(padState('camera', gamepad([0, 0, 0, 0], 7)).move, 'zoom-out');
  assert.deepEqual(padState('arm', gamepad([], 0)), { move: null, grip: true });
});

test('fields and lists keep their keys', () => {
  const inside = { closest: (selector) => (selector.includes('input') ? {} : null) };
  assert.ok(keepsKeys(inside));
  assert.ok(!keepsKeys({ closest: () => null }));
  assert.ok(!keepsKeys(null));
});

test('the socket lies where the studio is served', () => {
  const page = 'https://example.org/studio/?tab=play#top';
  const address = socketAddress(page, { root: 'http://10.0.0.7/studio' });
  assert.equal(address, 'wss://example.org/studio/play/socket');
  const local = socketAddress('http://127.0.0.1:7860/?tab=play', undefined);
  assert.equal(local, 'ws://127.0.0.1:7860/play/socket');
});

test('one change of settings is sent at a time, the latest values after its answer', () => {
  const sent = [];
  const changes = new Changes((message) => sent.push(message));
  changes.add({ temperature: .65 });
  for (const temperature of [.7, .75, .8]) changes.add({ temperature });
  changes.add({ block: '1x16x16' });
  assert.deepEqual(sent, [{ type: 'change', temperature: .65 }]);
  assert.ok(changes.isSent);
  changes.next();
  assert.deepEqual(sent[1], { type: 'change', temperature: .8, block: '1x16x16' });
  changes.next();
  assert.equal(sent.length, 2);
  assert.ok(!changes.isSent);
  changes.add({ model: 'tiny' });
  changes.clear();
  changes.add({ model: 'small' });
  assert.deepEqual(sent.slice(2).map(({ model }) => model), ['tiny', 'small']);
});

test('the block is the chosen one, else rows, else one that the model has', () => {
  const blocks = [['token', '1x1x1'], ['row', '1x1x16'], ['frame', '1x16x16']];
  assert.equal(blockOf(blocks, '1x1x1'), '1x1x1');
  assert.equal(blockOf(blocks, '1x4x4'), '1x1x16');
  assert.equal(blockOf([['4 rows', '1x4x16']], ''), '1x4x16');
  assert.equal(blockOf([], '1x1x16'), '');
});

test('a latent frame is a header and a picture', () => {
  const text = new TextEncoder().encode(JSON.stringify({ number: 3 }));
  const bytes = new Uint8Array(4 + text.length + 2);
  new DataView(bytes.buffer).setUint32(0, text.length);
  bytes.set(text, 4);
  bytes.set([7, 9], 4 + text.length);
  const { header, picture } = readFrames(bytes.buffer);
  assert.deepEqual([header.number, [...picture]], [3, [7, 9]]);
});

test('one line of figures', () => {
  assert.equal(figuresLine(16, null, null, 4, []), '');
  assert.equal(figuresLine(15.96, 181.4, HEADER, 4, []),
    '16.0 of 16 fps shown \u00b7 key to picture 181 ms \u00b7 latent frame 70 ms (sampling 40 ms,'
    + ' decoding 30 ms), 16 steps \u00b7 the model sees the first and the last 4 latent frames');
  const keyless = figuresLine(1, null, { ...HEADER, steps: 1 }, 4, []);
  assert.match(keyless, /^1.0 of 16 fps shown \u00b7 latent frame .*, 1 step /);
  assert.match(figuresLine(null, null, HEADER, 4, []), /^latent frame 70 ms/);
});

test('of a long play the first twenty latent frames and the last ten are kept', () => {
  const kept = [];
  for (let value = 0; value < 50; value += 1) keepSharpness(kept, value);
  assert.deepEqual(kept, [...Array(20).keys(), ...[...Array(10).keys()].map((i) => 40 + i)]);
});

test('drift compares the last ten latent frames with the second ten', () => {
  const sharp = [...Array(10).fill(40), ...Array(10).fill(20)];
  assert.equal(driftWords(sharp.slice(1)), '');
  assert.equal(driftWords(Array(20).fill(0)), '', 'a plain picture');
  assert.match(driftWords(sharp), /100 % of the sharpness/);
  const soft = [...sharp, ...Array(10).fill(15)];
  assert.match(figuresLine(16, null, HEADER, 4, soft), /drift: 75 % of the sharpness of lat/);
});

test('what does not keep up says why', () => {
  assert.equal(slowWords(15.5, HEADER), '');
  const slow = { ...HEADER, sample_ms: 1200, steps: 256 };
  assert.equal(slowWords(3.2, slow),
    'The clock runs at 20 % of real time: a latent frame of 256 steps takes 1,230 ms and lasts'
    + ' 250 ms. Larger blocks need fewer steps.');
  assert.doesNotMatch(slowWords(3.2, { ...slow, steps: 1 }), /Larger/);
  assert.equal(slowWords(null, slow), '', 'nothing was measured yet');
  assert.match(slowWords(8, { ...HEADER, players: 2 }), /50 % .* another visitor is playing too/);
  assert.match(slowWords(8, { ...HEADER, wait_ms: 300 }), /a run of another tab/);
  const far = { ...HEADER, way_ms: 1700.4 };
  const words = 'The clock runs at 8 % of real time: a latent frame takes 1,700 ms on its way here'
    + ' and lasts 250 ms.';
  assert.equal(slowWords(1.3, far), words);
  assert.equal(slowWords(1.3, { ...far, sample_ms: 400 }), words, 'the model takes less time');
  assert.equal(slowWords(1.3, { ...far, players: 2 }), words, 'who else plays takes less time');
  assert.match(slowWords(1.3, { ...far, players: 2, wait_ms: 1800 }), /another visitor/);
});

test('PSNR over time in words and as a line', () => {
  assert.equal(curveWords([], []), '');
  assert.match(curveWords([20, 30], [15, 17]), /the model 30\.0 dB now and 25\.0.*still, 16\.0/);
  assert.deepEqual(curvePoints([10, 40, 99], 3, 100, 60), [[0, 60], [50, 0], [100, 0]]);
});

// Stands in for the browser's WebSocket: a test opens it, lets it speak and closes it.
class FakeSocket extends EventTarget {
  static OPEN = 1;

  constructor(address) {
    super();
    Object.assign(this, { address, readyState: 0, sent: [] });
    FakeSocket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  open() {
    this.readyState = FakeSocket.OPEN;
    this.dispatchEvent(new Event('open'));
  }

  speak(data) {
    this.dispatchEvent(Object.assign(new Event('message'), { data }));
  }

  close() {
    this.readyState = 3;
    this.dispatchEvent(new Event('close'));
  }
}

const connect = (t) => {
  const before = globalThis.WebSocket;
  globalThis.WebSocket = FakeSocket;
  t.after(() => { globalThis.WebSocket = before; });
  FakeSocket.all = [];
  const heard = [];
  const connection = new Connection(() => 'ws://here/play/socket', {
    heard: (message) => heard.push(message),
    received: (buffer) => heard.push(buffer.byteLength),
    ended: () => heard.push('ended'),
  });
  return { connection, heard };
};

test('a connection that is still opening serves as well', async (t) => {
  const { connection, heard } = connect(t);
  const opened = connection.open();
  assert.equal(connection.open(), opened);
  connection.send({ type: 'early' });
  const [socket] = FakeSocket.all;
  socket.open();
  await opened;
  assert.equal(connection.open(), opened);
  connection.send({ type: 'step' });
  socket.speak('{"type": "started"}');
  socket.speak(new ArrayBuffer(3));
  assert.deepEqual([FakeSocket.all.length, socket.sent], [1, [{ type: 'step' }]]);
  assert.deepEqual(heard, [{ type: 'started' }, 3]);
});

test('what an earlier connection still says is dropped', (t) => {
  const { connection, heard } = connect(t);
  connection.open();
  const [first] = FakeSocket.all;
  first.open();
  connection.close();
  assert.equal(connection.isThere, false);
  connection.open();
  first.speak('{"type": "late"}');
  first.close();
  assert.deepEqual(heard, []);
  FakeSocket.all[1].open();
  FakeSocket.all[1].close();
  assert.deepEqual([heard, connection.isUsable], [['ended'], false]);
});

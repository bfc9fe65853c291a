// What is written under the picture. Knows nothing of the page.

import { FRAME_MS } from './clock.js';

export const LATENT_MS = 4 * FRAME_MS;
const TEN = 10;

const plural = (count, noun) => `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const ms = (value) => `${Math.round(value).toLocaleString('en')} ms`;

// Adds a latent frame's sharpness to what driftWords reads: the first twenty and the last ten.
export const keepSharpness = (sharpness, value) => {
  sharpness.push(value);
  if (sharpness.length > 3 * TEN) sharpness.splice(2 * TEN, 1);
};

// How sharp the last ten latent frames are, as a share of the second ten. The first ten are left
// out: they still come near the picture that the play began with. A plain picture has no sharpness.
export const driftWords = (sharpness) => {
  const before = mean(sharpness.slice(TEN, 2 * TEN));
  if (sharpness.length < 2 * TEN || !before) return '';
  const share = mean(sharpness.slice(-TEN)) / before;
  return `drift: ${Math.round(100 * share)} % of the sharpness of latent frames 11 to 20`;
};

// One line: shown frames per second, key to picture, a latent frame, the window, the drift. What
// was not measured yet is null and left out.
export const figuresLine = (rate, keyMs, header, window, sharpness) => {
  if (!header) return '';
  const { sample_ms: sample, decode_ms: decode, steps } = header;
  return [
    rate === null ? '' : `${rate.toFixed(1)} of 16 fps shown`,
    keyMs === null ? '' : `key to picture ${ms(keyMs)}`,
    `latent frame ${ms(sample + decode)} (sampling ${ms(sample)}, decoding ${ms(decode)}),`
      + ` ${plural(steps, 'step')}`,
    `the model sees the first and the last ${window} latent frames`,
    driftWords(sharpness),
  ].filter(Boolean).join(' \u00b7 ');
};

// Why the clip does not flow, in a sentence; nothing where it does, or before its rate is known.
export const slowWords = (rate, header) => {
  if (!header || rate === null || rate >= 14.5) return '';
  const { players, wait_ms: wait, way_ms: way } = header;
  const own = header.sample_ms + header.decode_ms, speed = Math.round(100 * rate / 16);
  const runs = `The clock runs at ${speed} % of real time`;
  if (own > Math.max(LATENT_MS, way)) {
    const advice = header.steps > 1 ? ' Larger blocks need fewer steps.' : '';
    return `${runs}: a latent frame of ${plural(header.steps, 'step')} takes ${ms(own)} and lasts`
      + ` ${ms(LATENT_MS)}.${advice}`;
  }
  if (way > Math.max(wait, LATENT_MS / 2)) {
    return `${runs}: a latent frame takes ${ms(way)} on its way here and lasts ${ms(LATENT_MS)}.`;
  }
  if (players > 1) {
    const others = players === 2 ? 'another visitor is playing' : 'others are playing';
    return `${runs}: ${others} too, in turns.`;
  }
  if (wait > LATENT_MS / 2) return `${runs}: a run of another tab shares the engine.`;
  return '';
};

// That the key which is held moves nothing, in a sentence; nothing where it moves the arm.
export const reachWords = (header) => (header && header.is_out
  ? 'The arm is at the end of its reach: this key moves it no further.' : '');

// The block to offer at first: the one that was chosen, else rows, else the one of fewest steps.
export const blockOf = (blocks, chosen) => {
  const shapes = blocks.map(([, shape]) => shape);
  return [chosen, '1x1x16'].find((shape) => shapes.includes(shape)) ?? shapes.at(-1) ?? '';
};

export const curveWords = (psnr, still) => {
  if (!psnr.length) return '';
  return `PSNR to the simulator, frame by frame, from ${CURVE.low} to ${CURVE.high} dB, with a line`
    + ` at 20: the model ${psnr.at(-1).toFixed(1)} dB now and ${mean(psnr).toFixed(1)} on average`
    + ` over ${psnr.length} frames. Dashed: the first frame held still,`
    + ` ${mean(still).toFixed(1)} dB on average.`;
};

export const CURVE = { low: 10, high: 40 };

// [x, y] of every value on a canvas of this size.
export const curvePoints = (psnr, total, width, height) => psnr.map((value, i) => {
  const level = Math.min(1, Math.max(0, (value - CURVE.low) / (CURVE.high - CURVE.low)));
  return [(total > 1 ? i / (total - 1) : 0) * width, height * (1 - level)];
});

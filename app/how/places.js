// Which tokens, frames, blocks and positions of a clip belong together, and the sentences about
// them. A clip and its cuts are those of app.how.steps.steps_view. Knows nothing of the page.

import { framesWords, split } from '../parts/clip.js';
import { clamp } from '../parts/page.js';

export const SHOWN_LATENTS = 5;

export const number = (count) => count.toLocaleString('en');

export const join = ([t, y, x], [, h, w]) => (t * h + y) * w + x;

// The levels that a code stands for, the first one counting by ones.
export const digitsOf = (code, levels) => {
  let rest = code;
  return levels.map((count) => {
    const digit = rest % count;
    rest = Math.floor(rest / count);
    return digit;
  });
};

// [first, end) of the frames that a latent frame stands for.
export const framesOf = (latent, factor) =>
  latent === 0 ? [0, 1] : [1 + factor * (latent - 1), 1 + factor * latent];

// The first latent frame that is shown, where there are more than fit.
export const firstShown = (latent, count) =>
  clamp(latent - 2, 0, Math.max(0, count - SHOWN_LATENTS));

// [top, left, height, width] of the block that a token lies in, within its latent frame.
export const blockOf = ([latent, y, x], shape) => {
  const [t, h, w] = shape.split('x').map(Number), height = latent === 0 ? t * h : h;
  return [Math.floor(y / height) * height, Math.floor(x / w) * w, height, w];
};

// What the position that predicts a place sees; null beyond the grid that was cut.
export const seenFrom = (cut, place) => {
  const query = cut.query[place] ?? -1;
  if (query < 0) return null;
  return { query, end: cut.ends[query],
           places: new Set(cut.place.slice(0, cut.ends[query]).filter((at) => at >= 0)) };
};

// Places that a step wrote, and those that they were predicted from (null: beyond the cut grid).
export const stepPlaces = (clip, cut, step) => {
  const made = [];
  clip.step.forEach((s, place) => { if (s === step) made.push(place); });
  if (!cut || made.some((place) => place >= cut.query.length)) return { made, fed: null };
  const fed = made.map((place) => cut.place[cut.query[place]] ?? -1).filter((place) => place >= 0);
  return { made, fed };
};

export const tokenWords = (clip, place) => {
  const [t, y, x] = split(place, clip.grid), code = clip.tokens[place];
  const levels = clip.levels.length
    ? ` (levels ${digitsOf(code, clip.levels).join(', ')} of`
      + ` ${clip.levels.join(', ')})` : '';
  return `Row ${y + 1}, column ${x + 1}, ${framesWords(t, clip.factor)}: token`
    + ` ${number(code)} of ${number(clip.codes)}${levels}.`;
};

export const groupWords = ({ factor, num_frames, grid }, latent) => {
  const words = latent === 0 ? 'Frame 1' : framesWords(latent, factor).replace('f', 'F');
  return `${words} of ${num_frames} ${latent === 0 ? 'becomes' : 'become'} latent frame`
    + ` ${latent + 1} of ${grid[0]}.`;
};

// [first, end) of the positions around a query that are shown large: eight blocks.
export const windowOf = ({ ends, block_len }, query) => {
  const length = Math.min(ends.length, 8 * block_len);
  const first = clamp(query - (length >> 1), 0, ends.length - length);
  return [first, first + length];
};

// The frames that steps 3 to 5 are about: a longer clip is made in pieces of that length.
export const shownFrames = (clip) => (
  framesOf(Math.min(SHOWN_LATENTS, clip.grid[0]) - 1, clip.factor)[1]);

// What the choices of a block count steps for.
export const legendWords = (clip) => clip.grid[0] > SHOWN_LATENTS
  ? `Block, with the steps of the first ${shownFrames(clip)} frames` : 'Block';

export const cutWords = (clip, cut) => {
  const count = Math.min(SHOWN_LATENTS, clip.grid[0]) * clip.grid[1] * clip.grid[2];
  const tokens = cut.block_len === 1 ? '1 token' : `${cut.block_len} tokens`;
  const given = clip.step.slice(0, count).filter((step) => step < 0).length;
  const rest = given ? ` after the ${number(given)} that were given` : '';
  const part = clip.grid[0] > SHOWN_LATENTS ? ` of the first ${shownFrames(clip)} frames` : '';
  return `Blocks of ${tokens}: ${number(count - given)} tokens${part} in ${number(cut.steps)}`
    + ` steps${rest}.`;
};

export const madeWords = (clip, step, { made, fed }) => {
  const what = made.length === 1 ? 'one token' : `${made.length} tokens`;
  const from = !fed ? 'from the block before' : !fed.length ? 'from the start of the sequence'
    : `from the ${fed.length === 1 ? 'token' : 'tokens'} in green`
      + (fed.length < made.length ? ' and from placeholders' : '');
  return `Step ${number(step + 1)} of ${number(clip.step_s.length)}: ${what} in orange, predicted`
    + ` ${from}.`;
};

// When the last token of a latent frame was there, and when its frames were.
export const readyOf = (clip, latent) => {
  const [, h, w] = clip.grid, [, end] = framesOf(latent, clip.factor);
  const last = Math.max(...clip.step.slice(latent * h * w, (latent + 1) * h * w));
  const frame = clip.frame_s[Math.min(end, clip.frame_s.length) - 1];
  return { tokens: last < 0 ? null : clip.step_s[last], frames: frame };
};

export const readyWords = (clip, latent) => {
  const { tokens, frames } = readyOf(clip, latent), seconds = (at) => `${at.toFixed(2)} s`;
  const words = framesWords(latent, clip.factor);
  if (tokens === null) return `You gave ${words}, so nothing was decoded.`;
  const verb = latent === 0 ? 'was' : 'were';
  return `The last token of latent frame ${latent + 1} came at ${seconds(tokens)}; ${words} ${verb}`
    + ` ready by ${seconds(frames)}. All ${number(clip.step_s.length)} steps took`
    + ` ${seconds(clip.step_s.at(-1))}.`;
};

// A finished clip in words, for the tabs that show one.

// The latent frame that holds a frame; both count from 0.
export const latentOf = (frame, factor) => frame === 0 ? 0 : 1 + Math.floor((frame - 1) / factor);

// [latent frame, row, column] of a place in the grid.
export const split = (place, [, h, w]) =>
  [Math.floor(place / (h * w)), Math.floor(place / w) % h, place % w];

// The latent frame that each step ended in.
export const latentsOf = ({ step, step_s, grid }) => {
  const latents = Array(step_s.length).fill(0);
  step.forEach((s, place) => {
    if (s >= 0) latents[s] = Math.max(latents[s], split(place, grid)[0]);
  });
  return latents;
};

// 'frame 1' or 'frames 6 to 9' of a latent frame.
export const framesWords = (latent, factor) => latent === 0 ? 'frame 1'
  : `frames ${2 + factor * (latent - 1)} to ${1 + factor * latent}`;

// Stands for a clip's odds where the server did not answer.
export const NO_ODDS = { note: 'The probabilities could not be computed.' };

export const percent = (share) => `${(100 * share).toFixed(share < .1 ? 2 : 1)} %`;

// A finished clip in words, for the tabs that show one.

// The latent frame that holds a frame; both count from 0.
export const latentOf = (frame, factor) => frame === 0 ? 0 : 1 + Math.floor((frame - 1) / factor);

// 'frame 1' or 'frames 6 to 9' of a latent frame.
export const framesWords = (latent, factor) => latent === 0 ? 'frame 1'
  : `frames ${2 + factor * (latent - 1)} to ${1 + factor * latent}`;

export const percent = (share) => `${(100 * share).toFixed(share < .1 ? 2 : 1)} %`;

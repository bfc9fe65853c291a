// The clock that several clips loop on: play, speed, and a slider over their frames (clock.html).

import { player } from '../parts/page.js';

// The frame that each clip shows at a time in frames: all start again together, and one that has
// ended shows its last frame.
export const framesAt = (at, counts) => {
  const frame = Math.floor(at) % Math.max(...counts);
  return counts.map((count) => Math.min(frame, count - 1));
};

// `show` draws the given frame of each clip.
export const clockOf = (element, show) => {
  const one = (name) => element.querySelector(name);
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  let clips = null, at = 0;

  const draw = () => {
    const frames = framesAt(at, clips.counts), frame = Math.max(...frames);
    show(frames);
    one('.clock').textContent = `frame ${frame + 1} of ${Math.max(...clips.counts)}`;
    one('.seek').value = frame;
    one('.play').textContent = clock.playing ? 'Pause' : 'Play';
  };
  const clock = player(element, (seconds) => {
    const before = Math.floor(at);
    at += seconds * clips.fps * Number(one('.speed').value);
    if (Math.floor(at) !== before) draw();
  });
  const play = (wanted) => {
    clock.play(wanted);
    draw();
  };
  one('.play').addEventListener('click', () => { if (clips) play(!clock.playing); });
  one('.seek').addEventListener('input', () => {
    if (!clips) return;
    at = Number(one('.seek').value);
    play(false);
  });
  return {
    start: (counts, fps) => {
      clips = { counts, fps };
      one('.seek').max = Math.max(...counts) - 1;
      at = 0;
      play(!still);
    },
    stop: () => { clips = null; clock.play(false); },
  };
};

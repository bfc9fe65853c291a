import { framesWords, latentOf, latentsOf, NO_ODDS, percent } from '../parts/clip.js';
import {
  ARROWS, cellAt, cellOf, clamp, countUntil, pictureOf, player,
} from '../parts/page.js';

const NOT_GIVEN = 'Point at a square, or choose one with the arrow keys, to read it.';

// What was there after so many seconds: steps, the last frame (-1: none), the latent frame in work.
export const momentOf = (clip, now) => {
  const steps = countUntil(clip.step_s, now);
  return {
    steps,
    frame: countUntil(clip.frame_s, now) - 1,
    latent: steps ? clip.latents[steps - 1] : 0,
  };
};

// The bounds of what a step made of a latent frame, as an SVG path; '' for nothing.
export const boxOf = ({ step, grid: [, h, w] }, latent, wanted) => {
  let top = h, left = w, bottom = 0, right = 0;
  for (let i = 0; i < h * w; i++) {
    if (step[latent * h * w + i] !== wanted) continue;
    const y = Math.floor(i / w), x = i % w;
    [top, left, bottom, right] =
      [Math.min(top, y), Math.min(left, x), Math.max(bottom, y + 1), Math.max(right, x + 1)];
  }
  return bottom ? `M${left} ${top}H${right}V${bottom}H${left}Z` : '';
};

// One token in words; `odds` are those of the server, or a note without them, or null at first.
export const tokenWords = (clip, latent, [y, x], odds) => {
  const [, h, w] = clip.grid, place = (latent * h + y) * w + x, step = clip.step[place];
  const where = `Row ${y + 1}, column ${x + 1}, ${framesWords(latent, clip.factor)}`;
  const code = `code ${clip.tokens[place].toLocaleString('en')}`;
  if (step < 0) return `${where}: ${code}, encoded from your input.`;
  const made = `${where}: ${code}, made at step ${step + 1} of ${clip.step_s.length}`;
  if (!odds) return `${made}. Computing its probability...`;
  if (!odds.probability) return `${made}. ${odds.note}`;
  const share = odds.probability[place];
  return share === null || share === undefined ? `${made}.`
    : `${made} with probability ${percent(share)}. The likeliest codes:`;
};

export const legendWords = ({ codes, patch, factor }) =>
  `Each square is one of ${codes.toLocaleString('en')} codes and stands for ${patch}x${patch}`
  + ` pixels over ${factor} frames (over one, in the first). Same colour, same code. ${NOT_GIVEN}`;

export function mount({ element, props, watch, trigger, server }) {
  const one = (name) => element.querySelector(name);
  const [frame, tokens, sheet] = ['.frame', '.tokens', '.sheet'].map(one);
  const pickedBoxes = [...element.querySelectorAll('.picked')];
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  let clip = null, loads = 0, at = 0, now = 0, waited = 0;
  let picked = null, odds = null, held = false;
  let asking = null; // the job whose odds are awaited

  const isClip = () => one('.mode').value === 'clip';
  const speed = () => one('.mode').value === 'steps' ? 0 : Number(one('.mode').value);
  const label = (name, words) => {
    const part = one(name);
    if (part.textContent !== words) part.textContent = words;
  };
  const size = (canvas, width, height) => {
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const ink = canvas.getContext('2d');
    ink.clearRect(0, 0, width, height);
    return ink;
  };
  const cut = ([h, w], walls, newest) => {
    element.querySelectorAll('svg').forEach((svg) => svg.setAttribute('viewBox', `0 0 ${w} ${h}`));
    one('.walls').setAttribute('d', walls);
    one('.newest').setAttribute('d', newest);
  };

  // A run under way: three pictures that Python has drawn.
  const paint = async (canvas, source, words) => {
    const mine = loads;
    canvas.setAttribute('aria-label', words);
    if (!source) { size(canvas, 1, 1); return; }
    const picture = await pictureOf(source).catch(() => null);
    if (picture && mine === loads) {
      size(canvas, picture.width, picture.height).drawImage(picture, 0, 0);
    }
  };
  const drawLive = (view) => {
    paint(frame, view.frame, view.frame_alt);
    paint(tokens, view.tokens, view.tokens_alt);
    paint(sheet, view.sheet, view.sheet_alt);
    label('.frame-text', view.frame_text);
    label('.tokens-text', view.tokens_text);
    cut(view.grid, view.walls, view.newest);
  };

  // A finished clip: its frames and tokens, at any moment of the clip or of its making.
  const moment = () => isClip()
    ? { steps: clip.step_s.length, frame: at, latent: latentOf(at, clip.factor) }
    : momentOf(clip, now);
  const drawCells = (ink, latent, steps, [x0, y0]) => {
    const [, h, w] = clip.grid, [x, y] = cellOf(latent * h * w, clip.grid, clip.columns);
    if (steps >= clip.step_s.length) {
      ink.drawImage(clip.sheetPicture, x, y, w, h, x0, y0, w, h);
      return;
    }
    for (let i = 0; i < h * w; i++) {
      if (clip.step[latent * h * w + i] >= steps) continue;
      const dx = i % w, dy = Math.floor(i / w);
      ink.drawImage(clip.sheetPicture, x + dx, y + dy, 1, 1, x0 + dx, y0 + dy, 1, 1);
    }
  };
  const drawSheet = (steps, latent) => {
    const [t, h, w] = clip.grid, { width, height } = clip.sheetPicture;
    const ink = size(sheet, width, height);
    for (let k = 0; k < t; k++) {
      const corner = cellOf(k * h * w, clip.grid, clip.columns);
      ink.globalAlpha = k === latent ? 1 : .55;
      drawCells(ink, k, steps, corner);
    }
    ink.globalAlpha = 1;
    sheet.setAttribute('aria-label', `All ${t} latent frames, ${steps} of ${clip.step_s.length}`
      + ' steps made');
  };
  const drawPicked = (latent) => {
    const [y, x] = picked || [0, 0];
    pickedBoxes.forEach((box) => {
      box.setAttribute('x', x);
      box.setAttribute('y', y);
      box.setAttribute('width', picked ? 1 : 0);
    });
    const place = (latent * clip.grid[1] + y) * clip.grid[2] + x;
    label('.read p', picked ? tokenWords(clip, latent, picked, odds) : '');
    const codes = picked && odds && odds.likeliest && clip.step[place] >= 0
      ? odds.likeliest[place] || [] : [];
    one('.read ol').replaceChildren(...codes.map((code, i) => {
      const item = document.createElement('li'), share = odds.shares[place][i];
      item.textContent = `${code.toLocaleString('en')}: ${percent(share)}`;
      item.style.setProperty('--share', share);
      item.classList.toggle('own', code === clip.tokens[place]);
      return item;
    }));
  };
  const draw = () => {
    const shown = moment(), total = clip.step_s.length;
    const ink = size(frame, clip.side, clip.side);
    if (shown.frame >= 0) {
      ink.drawImage(clip.framesPicture, shown.frame * clip.side, 0, clip.side, clip.side,
                    0, 0, clip.side, clip.side);
    }
    drawCells(size(tokens, clip.grid[2], clip.grid[1]), shown.latent, shown.steps, [0, 0]);
    drawSheet(shown.steps, shown.latent);
    const newest = isClip() ? '' : boxOf(clip, shown.latent, shown.steps - 1);
    cut(clip.grid.slice(1), clip.walls[shown.latent ? 1 : 0], newest);
    const words = shown.frame < 0 ? 'The first frame is not decoded yet.'
      : `Frame ${shown.frame + 1} of ${clip.num_frames}`;
    const latentWords = `Tokens of latent frame ${shown.latent + 1} of ${clip.grid[0]}`
      + ` (${framesWords(shown.latent, clip.factor)})`;
    label('.frame-text', words);
    label('.tokens-text', latentWords);
    frame.setAttribute('aria-label', words);
    tokens.setAttribute('aria-label', latentWords);
    one('.seek').max = isClip() ? clip.num_frames - 1 : total;
    one('.seek').value = isClip() ? at : shown.steps;
    label('.clock', isClip() ? `${(at / clip.fps).toFixed(2)} s`
      : `step ${shown.steps} of ${total}, ${Math.min(now, clip.end).toFixed(2)} s`);
    label('.play', clock.playing ? 'Pause' : 'Play');
    drawPicked(shown.latent);
  };
  const clock = player(element, (seconds) => {
    if (isClip()) {
      waited = held ? 0 : waited + seconds;
      if (waited < 1 / clip.fps) return;
      waited = 0;
      at = (at + 1) % clip.num_frames;
    } else {
      now += seconds * speed();
      if (now >= clip.end) clock.play(false);
    }
    draw();
  });
  const play = (wanted) => {
    if (wanted && !isClip() && now >= clip.end) now = 0;
    if (wanted && !isClip() && !speed()) one('.mode').value = '1';
    if (!clock.playing) waited = 0;
    held = false; // a tap on Play does not take the focus everywhere
    clock.play(wanted);
    draw();
  };
  const go = (wanted) => {
    clock.play(false);
    if (isClip()) at = (wanted + clip.num_frames) % clip.num_frames;
    else now = wanted <= 0 ? 0 : clip.step_s[Math.min(wanted, clip.step_s.length) - 1];
    draw();
  };
  const place = () => isClip() ? at : momentOf(clip, now).steps;
  const change = () => {
    now = 0;
    if (one('.mode').value === 'steps') go(1); else play(true);
  };
  const ask = async () => {
    if (!clip.job) { odds = { note: 'Generate a clip to see the probabilities.' }; return; }
    if (asking === clip.job || (odds && !odds.note)) return;
    const mine = asking = clip.job;
    const found = await server.token_odds(mine).catch(() => null);
    if (asking === mine) asking = null;
    if (!clip || clip.job !== mine) return;
    odds = found || NO_ODDS;
    draw();
  };
  const pick = (cell) => {
    picked = cell;
    if (picked) ask();
    draw();
  };

  const load = async (value) => {
    const mine = loads;
    const [framesPicture, sheetPicture] =
      await Promise.all([pictureOf(value.frames), pictureOf(value.sheet)]);
    if (mine !== loads) return;
    clip = { ...value, framesPicture, sheetPicture, latents: latentsOf(value),
             end: value.step_s.at(-1) };
    at = now = 0;
    picked = odds = null;
    one('.mode').value = 'clip';
    element.classList.add('is-clip');
    label('.legend', legendWords(clip));
    play(!still);
  };
  const show = () => {
    const value = props.value;
    if (!value || !value.grid) return;
    loads++;
    if (value.kind === 'clip') { load(value); return; }
    clip = null;
    clock.play(false);
    element.classList.remove('is-clip');
    pickedBoxes.forEach((box) => box.setAttribute('width', 0));
    label('.legend', '');
    label('.read p', '');
    one('.read ol').replaceChildren();
    drawLive(value);
  };

  const ready = (act) => (event) => { if (clip) act(event); };
  one('.play').addEventListener('click', ready(() => play(!clock.playing)));
  one('.back').addEventListener('click', ready(() => go(place() - 1)));
  one('.next').addEventListener('click', ready(() => go(place() + 1)));
  one('.seek').addEventListener('input', ready(() => go(Number(one('.seek').value))));
  one('.mode').addEventListener('change', ready(change));
  for (const canvas of [frame, tokens]) {
    const point = ready((event) => {
      held = canvas === tokens;
      const box = canvas.getBoundingClientRect();
      const cell = cellAt(event.clientX, event.clientY, box, clip.grid[1], clip.grid[2]);
      if (!picked || cell.some((at, i) => at !== picked[i])) pick(cell);
    });
    const leave = ready(() => { held = false; pick(null); });
    canvas.addEventListener('pointermove', point);
    canvas.addEventListener('click', point); // of a tap: a finger has left by then
    canvas.addEventListener('pointerleave', leave);
    canvas.addEventListener('blur', leave);
    canvas.addEventListener('keydown', ready((event) => {
      const by = ARROWS[event.key];
      if (!by) return;
      event.preventDefault();
      const [y, x] = picked || [-by[0], -by[1]];
      clock.play(false);
      pick([clamp(y + by[0], 0, clip.grid[1] - 1), clamp(x + by[1], 0, clip.grid[2] - 1)]);
    }));
  }
  show();
  watch('value', show);
}

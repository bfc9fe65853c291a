import { framesWords, latentOf, latentsOf, NO_ODDS, percent, split } from '../parts/clip.js';
import { ARROWS, cellAt, cellOf, clamp, fit, make, onTheme, pictureOf } from '../parts/page.js';
import {
  blockOf, cutWords, firstShown, framesOf, groupWords, join, legendWords, madeWords, number,
  readyOf, readyWords, seenFrom, SHOWN_LATENTS, shownFrames, stepPlaces, tokenWords, windowOf,
} from './places.js';

const GAP = 6;
const NEW = '#e69f00', FED = '#009e73', BLUE = '#0072b2';

// The six steps from a frame to a clip, drawn for one token that the visitor chooses.
export function mount({ element, props, watch, trigger, server }) {
  const one = (name) => element.querySelector(name);
  let clip = null, place = 0, frame = 0, cut = null, step = 0, odds = null, loads = 0, width = 0;
  let isSeen = false, asking = null; // the job whose odds are awaited

  const label = (name, words) => { one(name).textContent = words; };
  const ink = () => getComputedStyle(element).color;
  const canvasOf = (name, ratio) => {
    const canvas = one(name), side = canvas.clientWidth;
    const context = fit(canvas, side, Math.round(side * ratio));
    context.imageSmoothingEnabled = false;
    return [context, side];
  };

  // Tokens of a latent frame in a square; `shows` leaves some out.
  const drawTokens = (context, latent, [x0, y0], side, shows = null) => {
    const [, h, w] = clip.grid, corner = cellOf(latent * h * w, clip.grid, clip.columns);
    if (!shows) {
      context.drawImage(clip.sheetPicture, ...corner, w, h, x0, y0, side, side);
      return;
    }
    for (let i = 0; i < h * w; i++) {
      if (!shows(latent * h * w + i)) continue;
      const dx = i % w, dy = Math.floor(i / w);
      context.drawImage(clip.sheetPicture, corner[0] + dx, corner[1] + dy, 1, 1,
        x0 + dx * side / w, y0 + dy * side / h, side / w + .3, side / h + .3);
    }
  };
  const outline = (context, [x, y, wide, high], colour, line = 2) => {
    context.strokeStyle = '#000000';
    context.lineWidth = line + 2;
    context.strokeRect(x, y, wide, high);
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(x, y, wide, high);
  };
  const cellBox = (at, [x0, y0], side) => {
    const [, h, w] = clip.grid, [, y, x] = split(at, clip.grid);
    return [x0 + x * side / w, y0 + y * side / h, side / w, side / h];
  };
  const grey = (context, box) => {
    context.fillStyle = 'rgba(128, 128, 128, .18)';
    context.fillRect(...box);
  };
  const frameAt = (context, index, x, y, side) => context.drawImage(
    clip.framesPicture, index * clip.side, 0, clip.side, clip.side, x, y, side, side);

  const drawFrames = (latent) => {
    const count = Math.min(SHOWN_LATENTS, clip.grid[0]), first = firstShown(latent, clip.grid[0]);
    const wide = one('.frames').clientWidth, side = (wide - GAP * (count - 1) - 4) / count;
    const context = fit(one('.frames'), wide, Math.round(2 * side + 34));
    context.imageSmoothingEnabled = false;
    context.fillStyle = ink();
    context.font = '14px sans-serif';
    context.textAlign = 'center';
    for (let k = 0; k < count; k++) {
      const t = first + k, x = 2 + k * (side + GAP), [from, end] = framesOf(t, clip.factor);
      const half = side / 2;
      // What lies after the chosen latent frame has no part in it.
      context.globalAlpha = t > latent ? .3 : 1;
      for (let f = from; f < Math.min(end, clip.num_frames); f++) {
        const i = f - from, isAlone = end - from === 1;
        const [fx, fy] = isAlone ? [x + half / 2, 2 + half / 2]
          : [x + (i % 2) * half, 2 + Math.floor(i / 2) * half];
        frameAt(context, f, fx, fy, half - 1);
        if (f === frame) outline(context, [fx + 1, fy + 1, half - 3, half - 3], NEW);
      }
      context.fillText('\u2193', x + half, side + 21);
      drawTokens(context, t, [x, side + 30], side);
      if (t === latent) outline(context, [x + 1, side + 31, side - 2, side - 2], NEW);
      context.globalAlpha = 1;
    }
    label('.frames-read', groupWords(clip, latent));
    one('.frames').setAttribute('aria-label', `Frames above, latent frames below. Chosen: frame`
      + ` ${frame + 1}, latent frame ${latent + 1}`);
  };
  const drawPatch = (latent) => {
    const [frames, side] = canvasOf('.patch', 1), [tokens] = canvasOf('.tokens', 1);
    frameAt(frames, frame, 0, 0, side);
    drawTokens(tokens, latent, [0, 0], side);
    for (const context of [frames, tokens]) {
      outline(context, cellBox(place, [0, 0], side), '#ffffff');
    }
    const words = tokenWords(clip, place);
    label('.tokens-read', `${words} It stands for ${clip.patch}x${clip.patch} pixels.`);
    one('.tokens').setAttribute('aria-label', `Tokens of latent frame ${latent + 1}. ${words}`);
    one('.patch').setAttribute('aria-label', `Frame ${frame + 1}, with the patch of the token`);
  };
  const drawBlocks = (latent) => {
    const [context, side] = canvasOf('.blocks', 1), [, h, w] = clip.grid;
    context.globalAlpha = .6;
    drawTokens(context, latent, [0, 0], side);
    context.globalAlpha = 1;
    context.save();
    context.scale(side / w, side / h);
    context.lineWidth = 1.2 * w / side;
    context.strokeStyle = ink();
    context.stroke(new Path2D(cut.walls[latent ? 1 : 0]));
    context.restore();
    const [top, left, high, wide] = blockOf(split(place, clip.grid), cut.shape);
    const unit = side / w;
    outline(context, [left * unit + 1, top * unit + 1, wide * unit - 2, high * unit - 2], NEW, 3);
    label('.blocks-read', cutWords(clip, cut));
    one('.blocks').setAttribute('aria-label', `Latent frame ${latent + 1} cut into blocks of`
      + ` ${cut.shape}`);
  };
  // The mask of positions [first, end) in a square.
  const drawStairs = (context, [first, end], [x0, y0], side) => {
    const scale = side / (end - first), at = (position) => (position - first) * scale;
    context.save();
    context.beginPath();
    context.rect(x0, y0, side, side);
    context.clip();
    context.translate(x0, y0);
    for (let a = 0; a < end; a = cut.ends[a]) {
      const b = cut.ends[a], high = Math.max((b - a) * scale, .2);
      context.fillStyle = 'rgba(0, 114, 178, .5)';
      context.fillRect(0, at(a), at(b), high);
      context.fillStyle = BLUE;
      context.fillRect(at(a), at(a), high, high);
    }
    context.restore();
  };
  const drawQuery = (context, seen, [first, end], [x0, y0], side) => {
    const scale = side / (end - first), high = Math.max(3, scale);
    context.fillStyle = NEW;
    context.fillRect(x0, y0 + (seen.query + .5 - first) * scale - high / 2,
      Math.max(3, (Math.min(seen.end, end) - first) * scale), high);
  };
  const drawMask = (seen) => {
    const [context, side] = canvasOf('.mask', 1), length = cut.ends.length, all = [0, length];
    const scale = side / length;
    grey(context, [0, 0, side, side]);
    drawStairs(context, all, [0, 0], side);
    context.strokeStyle = ink();
    context.globalAlpha = .4;
    for (const at of cut.frames.slice(1)) {
      context.strokeRect(-1, at * scale, side + 2, side);
      context.strokeRect(at * scale, -1, side, side + 2);
    }
    context.globalAlpha = 1;
    if (seen) {
      drawQuery(context, seen, all, [0, 0], side);
      drawLarge(context, seen, side, scale);
    }
    one('.mask').setAttribute('aria-label', `Attention mask of ${number(length)} positions for`
      + ` blocks of ${cut.shape}: a ${cut.block_len === 1 ? 'triangle' : 'staircase'}`);
  };
  // The blocks around the query, large, in the half of the mask that is empty.
  const drawLarge = (context, seen, side, scale) => {
    const [first, end] = windowOf(cut, seen.query), large = side * .46;
    if (end - first === cut.ends.length) return;
    const corner = [side - large - 2, 2], small = Math.max(4, (end - first) * scale);
    context.clearRect(...corner, large, large);
    grey(context, [...corner, large, large]);
    drawStairs(context, [first, end], corner, large);
    drawQuery(context, seen, [first, end], corner, large);
    context.strokeStyle = ink();
    context.lineWidth = 1;
    context.strokeRect(...corner, large, large);
    context.strokeRect(first * scale, first * scale, small, small);
    context.beginPath();
    context.moveTo(first * scale + small, first * scale);
    context.lineTo(corner[0] + large / 2, corner[1] + large);
    context.stroke();
  };
  const drawSeen = (seen) => {
    const [context, side] = canvasOf('.seen', 1);
    const count = Math.min(SHOWN_LATENTS, clip.grid[0]);
    const columns = count > 2 ? 2 : 1, rows = Math.ceil(count / columns);
    const square = (side - GAP * (rows - 1)) / rows;
    for (let t = 0; t < count; t++) {
      const corner = [(t % columns) * (square + GAP), Math.floor(t / columns) * (square + GAP)];
      grey(context, [...corner, square, square]);
      if (seen) drawTokens(context, t, corner, square, (at) => seen.places.has(at));
      if (split(place, clip.grid)[0] === t) {
        outline(context, cellBox(place, corner, square), NEW);
      }
    }
    const total = clip.step.length / clip.grid[0] * count;
    const words = clip.step[place] < 0 ? 'Nothing predicts this token: it was given.'
      : !seen ? `This step shows the first ${shownFrames(clip)} frames. A longer clip repeats it.`
      : `The orange row of the mask predicts the orange token. It sees ${number(seen.places.size)}`
        + ` of ${number(total)} tokens: its own block and all earlier ones.`;
    label('.mask-read', words);
    one('.seen').setAttribute('aria-label', words);
  };
  const drawOdds = () => {
    const list = one('.odds ol'), codes = odds?.likeliest?.[place] || [];
    const isGiven = clip.step[place] < 0;
    label('.odds p', isGiven ? 'This token was given.' : !odds ? 'Computing probabilities...'
      : odds.note || (codes.length ? 'Likeliest codes of the token in white:'
        : `Probabilities are computed for the first ${shownFrames(clip)} frames.`));
    list.replaceChildren(...(isGiven ? [] : codes).map((code, i) => {
      const item = document.createElement('li'), share = odds.shares[place][i];
      item.textContent = `${number(code)}: ${percent(share)}`
        + `${code === clip.tokens[place] ? ', drawn' : ''}`;
      item.style.setProperty('--share', share);
      return item;
    }));
  };
  const drawMade = (latent) => {
    const [context, side] = canvasOf('.made', 1);
    const own = clip.cuts.find(({ shape }) => shape === clip.own);
    const found = stepPlaces(clip, own, step);
    grey(context, [0, 0, side, side]);
    drawTokens(context, latent, [0, 0], side, (at) => clip.step[at] <= step);
    const mark = (places, colour) => {
      const boxes = places.filter((at) => split(at, clip.grid)[0] === latent)
        .map((at) => cellBox(at, [0, 0], side));
      if (!boxes.length) return;
      const [x, y] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])));
      const [right, low] = [0, 1].map((i) => Math.max(...boxes.map((box) => box[i] + box[i + 2])));
      outline(context, [x, y, right - x, low - y], colour, 3);
    };
    mark(found.fed || [], FED);
    mark(found.made, NEW);
    outline(context, cellBox(place, [0, 0], side), '#ffffff', 1);
    const words = found.made.length ? madeWords(clip, step, found)
      : 'This token was encoded from your input.';
    label('.made-read', words);
    one('.made').setAttribute('aria-label', `Latent frame ${latent + 1}. ${words}`);
    drawOdds();
  };
  const drawDecoded = (latent) => {
    const wide = one('.decoded').clientWidth, [from, end] = framesOf(latent, clip.factor);
    const side = Math.min(150, (wide - 3 * GAP) / 4), context = fit(one('.decoded'), wide, side);
    context.imageSmoothingEnabled = false;
    for (let f = from; f < Math.min(end, clip.num_frames); f++) {
      frameAt(context, f, (f - from) * (side + GAP), 0, side);
    }
    one('.decoded').setAttribute('aria-label', `Decoded ${framesWords(latent, clip.factor)}`);
  };
  const drawTimes = (latent) => {
    const wide = one('.times').clientWidth, context = fit(one('.times'), wide, 84);
    const last = Math.max(clip.step_s.at(-1), clip.frame_s.at(-1)), left = 52;
    const at = (seconds) => left + seconds / last * (wide - left - 2);
    const colours = ['rgba(0, 114, 178, .55)', BLUE];
    context.font = '12px sans-serif';
    context.fillStyle = ink();
    context.fillText('tokens', 0, 17);
    context.fillText('frames', 0, 47);
    context.fillText('0 s', left, 76);
    context.textAlign = 'right';
    context.fillText(`${last.toFixed(2)} s`, wide - 2, 76);
    clip.step_s.forEach((end, s) => {
      const t = clip.latents[s], begin = s ? clip.step_s[s - 1] : 0;
      context.fillStyle = t === latent ? NEW : colours[t % 2];
      context.fillRect(at(begin), 4, Math.max(.6, at(end) - at(begin) - .4), 18);
    });
    for (let t = 0; t < clip.grid[0]; t++) {
      context.fillStyle = t === latent ? NEW : colours[t % 2];
      context.fillRect(Math.min(at(readyOf(clip, t).frames), wide - 8), 34, 6, 18);
    }
    label('.times-read', readyWords(clip, latent));
    one('.times').setAttribute('aria-label', readyWords(clip, latent));
  };
  const draw = () => {
    if (!clip || !element.clientWidth) { width = 0; return; } // drawn once it is seen
    width = element.clientWidth;
    const [latent] = split(place, clip.grid), seen = seenFrom(cut, place);
    drawFrames(latent);
    drawPatch(latent);
    drawBlocks(latent);
    drawMask(seen);
    drawSeen(seen);
    drawMade(latent);
    drawDecoded(latent);
    drawTimes(latent);
    one('.seek').value = frame;
    one('.seek').setAttribute('aria-valuetext', `Frame ${frame + 1} of ${clip.num_frames}`);
    one('.at').value = step + 1;
    one('.at').setAttribute('aria-valuetext', `Step ${step + 1} of ${clip.step_s.length}`);
  };

  // One token is chosen at a time, with its frame and the step that made it.
  const pick = (wanted, wantedFrame = null) => {
    place = wanted;
    const [latent] = split(place, clip.grid), [from, end] = framesOf(latent, clip.factor);
    frame = clamp(wantedFrame ?? frame, from, Math.min(end, clip.num_frames) - 1);
    step = Math.max(0, clip.step[place]);
    draw();
    if (odds?.note) ask(); // the engine was busy, perhaps
  };
  const seek = (wanted) => {
    const [, y, x] = split(place, clip.grid);
    pick(join([latentOf(wanted, clip.factor), y, x], clip.grid), wanted);
  };
  const go = (wanted) => {
    const before = stepPlaces(clip, null, step).made.indexOf(place);
    const { made } = stepPlaces(clip, null, wanted);
    if (made.length) pick(made[clamp(before, 0, made.length - 1)]);
  };
  const choose = (wanted) => { cut = wanted; draw(); };

  const buildCuts = () => {
    const box = one('.cuts');
    box.querySelectorAll('label').forEach((part) => part.remove());
    label('.cuts legend', legendWords(clip));
    for (const each of clip.cuts) {
      const part = make('label', '', box), radio = make('input', '', part);
      radio.type = 'radio';
      radio.name = 'how-cut';
      radio.checked = each === cut;
      radio.addEventListener('change', () => choose(each));
      make('span', '', part).textContent = ` ${each.name} ${each.shape},`
        + ` ${number(each.steps)} steps`;
    }
  };
  const ask = async () => {
    if (!clip || odds?.probability || !isSeen || asking === clip.job) return;
    const mine = asking = clip.job;
    const found = await server.token_odds(mine).catch(() => null);
    if (asking === mine) asking = null;
    if (clip?.job !== mine) return;
    odds = found || NO_ODDS;
    drawOdds();
  };
  const load = async () => {
    const value = props.value, mine = ++loads, isThere = Boolean(value?.cuts?.length);
    one('.none').hidden = isThere;
    one('.steps').hidden = !isThere;
    if (!isThere) { clip = null; return; }
    const [framesPicture, sheetPicture] =
      await Promise.all([pictureOf(value.frames), pictureOf(value.sheet)]);
    if (mine !== loads) return;
    clip = { ...value, framesPicture, sheetPicture, latents: latentsOf(value) };
    cut = clip.cuts.find(({ shape }) => shape === clip.own) || clip.cuts[0];
    odds = null;
    one('.seek').max = clip.num_frames - 1;
    // A stopped clip lacks the tokens of its last steps.
    one('.at').max = Math.max(0, ...clip.step) + 1;
    const [t, h, w] = clip.grid, middle = Math.min(2, t - 1);
    frame = framesOf(middle, clip.factor)[0];
    buildCuts();
    pick(join([middle, h >> 1, w >> 1], clip.grid));
    ask();
  };

  // Brings a control into view, once it is there, and focuses it. Whoever does something else
  // meanwhile is left alone.
  const lead = (target) => {
    let patience = 100;
    const leave = () => { patience = 0; };
    const look = () => {
      const part = document.querySelector(target);
      if (part?.checkVisibility()) {
        part.scrollIntoView({ block: 'center' });
        part.focus({ preventScroll: true });
        patience = 0;
      }
      if (patience-- > 0) { setTimeout(look, 100); return; }
      for (const kind of ['pointerdown', 'keydown']) document.removeEventListener(kind, leave);
    };
    for (const kind of ['pointerdown', 'keydown']) document.addEventListener(kind, leave);
    setTimeout(look, 0);
  };
  element.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-target]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const tab = new URLSearchParams(link.search).get('tab');
    if (tab) trigger('select', { tab });
    lead(link.dataset.target);
  });

  one('.seek').addEventListener('input', () => { if (clip) seek(Number(one('.seek').value)); });
  one('.at').addEventListener('input', () => { if (clip) go(Number(one('.at').value) - 1); });
  for (const name of ['.patch', '.tokens', '.blocks', '.made']) {
    one(name).addEventListener('click', (event) => {
      if (!clip) return;
      const [latent] = split(place, clip.grid), box = one(name).getBoundingClientRect();
      const cell = cellAt(event.clientX, event.clientY, box, clip.grid[1], clip.grid[2]);
      pick(join([latent, ...cell], clip.grid));
    });
  }
  one('.tokens').addEventListener('keydown', (event) => {
    const by = ARROWS[event.key];
    if (!clip || !by) return;
    event.preventDefault();
    const [latent, y, x] = split(place, clip.grid);
    const cell = [clamp(y + by[0], 0, clip.grid[1] - 1), clamp(x + by[1], 0, clip.grid[2] - 1)];
    pick(join([latent, ...cell], clip.grid));
  });
  // Drawing sets heights; only a new width is a reason to draw again.
  new ResizeObserver(() => { if (element.clientWidth !== width) draw(); }).observe(element);
  onTheme(() => { width = 0; draw(); });
  new IntersectionObserver(([seen]) => {
    isSeen = seen.isIntersecting;
    ask();
  }).observe(one('.odds'));
  load();
  watch('value', load);
}

"""The replay of a race in the browser: two clips and two token grids against one clock."""

from __future__ import annotations

from typing import Final

_PANE = """
  <figure>
    <figcaption class="name"></figcaption>
    <canvas class="frame" width="128" height="128" role="img" tabindex="0" aria-label="No frame"
    ></canvas>
    <canvas class="cells" width="84" height="16" role="img" tabindex="0" aria-label="No tokens"
    ></canvas>
    <p class="state"></p>
  </figure>"""

REPLAY_TEMPLATE: Final = f"""
<div class="race-bar">
  <button type="button" class="play">Play</button>
  <button type="button" class="again">Replay</button>
  <label>Speed <select class="speed"><option value="0.25">1/4x</option>
    <option value="1" selected>1x</option><option value="4">4x</option>
    <option value="16">16x</option></select></label>
  <output class="clock">0.00 s</output>
  <input class="seek" type="range" min="0" max="1000" value="0" step="1"
    aria-label="Place on the race's clock">
</div>
<div class="race-panes">{_PANE}{_PANE}
</div>
"""

# `now` runs over the seconds that were measured; once both are done, `loop` runs over the clips.
REPLAY_JS: Final = """
const one = (name) => element.querySelector(name);
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
const panes = [...element.querySelectorAll('figure')].map((figure) => ({
  name: figure.querySelector('.name'), state: figure.querySelector('.state'),
  frame: figure.querySelector('.frame'), cells: figure.querySelector('.cells'),
}));
let race = null, now = 0, loop = 0, playing = false, before = 0, loads = 0, ticking = false;

const picture = async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
};
const count = (times, limit) => {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low;
};
const cell = (pane, runner, place, alpha) => {
  const [, height, width] = race.grid;
  const t = Math.floor(place / (height * width));
  const x = (t % race.columns) * (width + 1) + place % width;
  const y = Math.floor(t / race.columns) * (height + 1) + Math.floor(place / width) % height;
  const ink = pane.cells.getContext('2d');
  ink.globalAlpha = alpha;
  ink.drawImage(runner.tokenSheet, x, y, 1, 1, x, y, 1, 1);
};
const clear = (pane, runner) => {
  pane.cells.getContext('2d').clearRect(0, 0, pane.cells.width, pane.cells.height);
  for (let place = 0; place < runner.known; place++) cell(pane, runner, place, 0.4);
  runner.drawn = 0;
};
const drawTokens = (pane, runner, steps) => {
  if (steps < runner.drawn) clear(pane, runner);
  for (; runner.drawn < steps; runner.drawn++) {
    for (const place of runner.places[runner.drawn]) cell(pane, runner, place, 1);
  }
};
const drawFrame = (pane, runner, index) => {
  if (index === runner.shown) return;
  runner.shown = index;
  const ink = pane.frame.getContext('2d');
  ink.clearRect(0, 0, race.side, race.side);
  if (index < 0) return;
  ink.drawImage(runner.frameSheet, index * race.side, 0, race.side, race.side,
                0, 0, race.side, race.side);
};
const draw = () => {
  const over = now >= race.end;
  race.runners.forEach((runner, i) => {
    const pane = panes[i];
    const steps = count(runner.step_s, now), frames = count(runner.frame_s, now);
    const total = runner.frame_s.length;
    drawTokens(pane, runner, steps);
    drawFrame(pane, runner, over ? Math.floor(loop * race.fps) % total : frames - 1);
    const done = steps === runner.step_s.length;
    pane.state.textContent = done
      ? `done in ${runner.step_s.at(-1).toFixed(2)} s`
      : `step ${steps.toLocaleString('en')} of ${runner.step_s.length.toLocaleString('en')},`
        + ` ${frames} of ${total} frames`;
    pane.frame.setAttribute('aria-label', `${runner.name}: ${frames} of ${total} frames are there`);
    pane.cells.setAttribute('aria-label', `${runner.name}: tokens of ${steps} of`
      + ` ${runner.step_s.length} steps are there`);
  });
  one('.clock').textContent = `${Math.min(now, race.end).toFixed(2)} s`;
  one('.seek').value = 1000 * Math.min(1, now / race.end);
  one('.play').textContent = playing ? 'Pause' : 'Play';
};
const tick = (at) => {
  if (!race || !playing || !element.isConnected) { ticking = false; return; }
  const passed = Math.min(0.25, (at - before) / 1000);
  before = at;
  if (now < race.end) now += passed * Number(one('.speed').value); else loop += passed;
  draw();
  requestAnimationFrame(tick);
};
const play = (wanted) => {
  playing = wanted;
  if (playing && !ticking) {
    ticking = true;
    before = performance.now();
    requestAnimationFrame(tick);
  }
  draw();
};
const load = async () => {
  const value = props.value;
  if (!value || !value.runners) return;
  const mine = ++loads;
  const runners = await Promise.all(value.runners.map(async (runner) => ({
    ...runner, frameSheet: await picture(runner.frames), tokenSheet: await picture(runner.tokens),
    drawn: 0, shown: null,
  })));
  if (mine !== loads) return;
  race = {...value, runners, end: Math.max(...runners.map((runner) => runner.step_s.at(-1)))};
  panes.forEach((pane, i) => {
    pane.name.textContent = runners[i].name;
    pane.frame.width = pane.frame.height = race.side;
    pane.cells.width = runners[i].tokenSheet.width;
    pane.cells.height = runners[i].tokenSheet.height;
    clear(pane, runners[i]);
  });
  one('.speed').value = race.end > 60 ? '16' : race.end > 15 ? '4' : '1';
  now = loop = 0;
  play(!still);
};
const ready = (act) => () => { if (race) act(); };
one('.play').addEventListener('click', ready(() => play(!playing)));
one('.again').addEventListener('click', ready(() => { now = loop = 0; play(true); }));
one('.seek').addEventListener('input', ready(() => {
  now = race.end * Number(one('.seek').value) / 1000;
  loop = 0;
  play(false);
}));
load();
watch('value', load);
"""

COMPARE_CSS: Final = """
#race-replay .race-bar { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; }
#race-replay .race-bar button, #race-replay .race-bar select { padding: .25rem .8rem;
  min-height: 2rem; border-radius: var(--radius-md); cursor: pointer;
  color: var(--button-secondary-text-color); border: 1px solid var(--border-color-primary);
  background: var(--button-secondary-background-fill); }
#race-replay .race-bar .play { min-width: 5rem; }
#race-replay .clock { font-size: 1.5rem; font-weight: 700; min-width: 6.5rem; text-align: right;
  font-variant-numeric: tabular-nums; }
#race-replay .seek { flex: 1 1 12rem; accent-color: var(--color-accent); }
#race-replay .race-panes { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem;
  margin-top: .6rem; }
#race-replay figure { margin: 0; min-width: 0; max-width: 420px; }
#race-replay .name { font-weight: 700; margin-bottom: .3rem; }
#race-replay canvas { display: block; width: 100%; image-rendering: pixelated; }
#race-replay canvas.frame { aspect-ratio: 1; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); }
#race-replay canvas.cells { margin-top: .5rem; background: var(--background-fill-secondary); }
#race-replay .state { margin: .3rem 0 0; font-variant-numeric: tabular-nums; min-height: 1.5em; }
#race-replay :focus-visible { outline: 2px solid currentColor; outline-offset: 1px; }
#race-headline p { font-size: 1.15rem; margin: 0; }
#race-figures { overflow-x: auto; }
#race-figures table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
#race-figures th, #race-figures td { padding: .2rem .9rem .2rem 0; text-align: right; border: 0;
  border-bottom: 1px solid var(--border-color-primary); }
#race-figures th:first-child { text-align: left; font-weight: 400; }
#race-status .bar { height: 6px; border-radius: 3px; overflow: hidden;
  background: var(--border-color-primary); }
#race-status .bar > div { height: 100%; background: var(--color-accent); }
#race-status p { margin: .4rem 0 0; font-weight: 700; }
#race-status p.failed { color: #b91c1c; }
.dark #race-status p.failed { color: #fca5a5; }
#race-stop { background: #b91c1c; color: #ffffff; }
#race-stop:disabled { background: var(--button-secondary-background-fill);
  color: var(--body-text-color-subdued); }
.race-chart text { fill: var(--body-text-color) !important; font-family: var(--font) !important; }
.race-chart .hoverlayer text { fill: #ffffff !important; }
#race-fair p, #race-measured p { max-width: 90ch; }
#race-run { flex-wrap: nowrap; }
#race-run button { min-width: 0; }
@media (max-width: 640px) {
  #race-replay .race-panes { gap: .5rem; }
  #race-replay .name { min-height: 3em; }
}
"""

import { cellOf, countUntil, pictureOf, player } from '../parts/page.js';

// `now` runs over the seconds that were measured; once both are done, `loop` runs over the clips.
export function mount({ element, props, watch, trigger }) {
  const one = (name) => element.querySelector(name);
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const panes = [...element.querySelectorAll('figure')].map((figure) => ({
    name: figure.querySelector('.name'), state: figure.querySelector('.state'),
    frame: figure.querySelector('.frame'), cells: figure.querySelector('.cells'),
  }));
  let race = null, now = 0, loop = 0, loads = 0;

  const cell = (pane, runner, place, alpha) => {
    const [x, y] = cellOf(place, race.grid, race.columns);
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
      const steps = countUntil(runner.step_s, now), frames = countUntil(runner.frame_s, now);
      const total = runner.frame_s.length;
      drawTokens(pane, runner, steps);
      drawFrame(pane, runner, over ? Math.floor(loop * race.fps) % total : frames - 1);
      const done = steps === runner.step_s.length;
      pane.state.textContent = done
        ? `done in ${runner.step_s.at(-1).toFixed(2)} s`
        : `step ${steps.toLocaleString('en')} of ${runner.step_s.length.toLocaleString('en')},`
          + ` ${frames} of ${total} frames`;
      pane.frame.setAttribute(
        'aria-label', `${runner.name}: ${frames} of ${total} frames`);
      pane.cells.setAttribute('aria-label', `${runner.name}: tokens of ${steps} of`
        + ` ${runner.step_s.length} steps`);
    });
    one('.clock').textContent = `${Math.min(now, race.end).toFixed(2)} s`;
    one('.seek').value = 1000 * Math.min(1, now / race.end);
    one('.play').textContent = clock.playing ? 'Pause' : 'Play';
  };
  const clock = player(element, (seconds) => {
    if (now < race.end) now += seconds * Number(one('.speed').value); else loop += seconds;
    draw();
  });
  const play = (wanted) => {
    clock.play(wanted);
    draw();
  };
  const load = async () => {
    const value = props.value;
    if (!value || !value.runners) return;
    const mine = ++loads;
    const runners = await Promise.all(value.runners.map(async (runner) => ({
      ...runner, frameSheet: await pictureOf(runner.frames),
      tokenSheet: await pictureOf(runner.tokens), drawn: 0, shown: null,
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
  one('.play').addEventListener('click', ready(() => play(!clock.playing)));
  one('.again').addEventListener('click', ready(() => { now = loop = 0; play(true); }));
  one('.seek').addEventListener('input', ready(() => {
    now = race.end * Number(one('.seek').value) / 1000;
    loop = 0;
    play(false);
  }));
  load();
  watch('value', load);
}

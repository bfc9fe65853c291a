import { Canvases } from './canvases.js';
import { Clock, Delay, Recent } from './clock.js';
import { blockOf, figuresLine, keepSharpness, reachWords, slowWords } from './figures.js';
import { Held } from './keys.js';
import { Pad } from './pad.js';
import { Changes, Connection, readFrames, socketAddress } from './wire.js';

const FIGURES_MS = 250;
const SETTLED_MS = 2500; // before this the rate says nothing
const HIDDEN_MS = 1000;
const SILENT_MS = 10_000; // longer than any answer takes, beside its latent frame
const KEY_TIMES = 40;
const SLIDERS = ['.temperature', '.guidance'];
const STARTING = 'Starting.';
const LOST = 'No answer from the studio for more than 10 seconds. Reset begins anew, over a new'
  + ' connection.';

// The visitor's end of a play: what is asked of the studio, when its answers are shown, and what is
// written beside them.
export function mount({ element, props, watch, trigger }) {
  const one = (name) => element.querySelector(name);
  const stage = one('.play-stage'), picture = one('.picture');
  const canvases = new Canvases(element), held = new Held(), delay = new Delay();
  let clock = new Clock(), keyTimes = new Recent(KEY_TIMES);
  let info = null, start = null, header = null;
  let running = false, singles = 0, asked = null, number = 0, ended = false, filming = false;
  let opening = false; // a play was asked for, and what is asked now would be asked of it
  let begins = 0, first = 0; // first: number of this play's first step
  let wish = null; // another play was asked for meanwhile: whether it is to run
  let waits = '', trouble = '', began = 0, written = 0, ticking = false, ticked = 0, playing = 0;
  let psnr = [], still = [], sharpness = [];
  const pressed = new Map();

  const isSeen = () => element.isConnected && stage.checkVisibility();
  const tell = (text) => {
    if (one('.told').textContent !== text) one('.told').textContent = text;
  };
  const whyNot = () => (props.value ? props.value.why : '');
  // No connection tells that its network is gone: only answers that fail to come show it.
  const isLost = (now) => connection.isThere && (opening || asked !== null) && !waits
    && now - connection.spoke > SILENT_MS + (header ? header.sample_ms + header.decode_ms : 0);

  // ---- the picture

  // What a frame brings beside its picture, whether it is shown or skipped.
  const pass = ({ image, index, head, isLast }, now) => {
    if (head.psnr.length) { psnr.push(head.psnr[index]); still.push(head.still[index]); }
    if (index === 0) {
      if (head.number >= 0) {
        header = head;
        keepSharpness(sharpness, head.sharpness);
      }
      const since = pressed.get(head.number);
      if (since !== undefined) {
        keyTimes.add(now - since);
        pressed.delete(head.number);
      }
      if (info && info.length) pad.light(head.key);
    }
    if (!isLast) return;
    image.close();
    if (info && info.length && head.number === info.length - 1) {
      ended = true;
      running = false;
      write(now);
    }
  };
  const receive = async (buffer) => {
    const mine = playing;
    const { header: head, picture: bytes } = readFrames(buffer);
    const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    if (mine !== playing) { image.close(); return; }
    if (head.number >= 0) {
      const took = performance.now() - asked;
      delay.add(took);
      head.way_ms = took - head.sample_ms - head.decode_ms - head.wait_ms;
      asked = null;
      waits = '';
    }
    const side = image.height / head.count, beside = image.width > side;
    clock.push(Array.from({ length: head.count }, (_, index) => (
      { image, index, side, beside, head, isLast: index === head.count - 1 })));
  };
  const ask = () => {
    const { key, since } = held.take(info.world);
    if (since !== null) pressed.set(number, since);
    connection.send({ type: 'step', number, key });
    asked = performance.now();
    number += 1;
    if (singles) singles -= 1;
  };

  // What was pressed before the play rested or changed is timed no more: it waited for that, too.
  const forgetPresses = () => {
    held.since = null;
    pressed.clear();
  };

  // ---- what is written

  const write = (now) => {
    const rate = clock.rate(now);
    one('.figures').textContent = figuresLine(rate, keyTimes.median, header, info.window,
      sharpness);
    const flows = running && now - began > SETTLED_MS ? slowWords(rate, header) : '';
    const awaited = isLost(now) ? LOST : opening ? STARTING : '';
    tell(whyNot() || waits || awaited || trouble || reachWords(header) || flows || info.note);
    Object.assign(picture.dataset, {
      shown: clock.shown, late: clock.late, dropped: clock.dropped, rate: (rate ?? 0).toFixed(2),
      keys: keyTimes.values.length, keyMedian: (keyTimes.median ?? 0).toFixed(1),
      keyMean: (keyTimes.mean ?? 0).toFixed(1), step: header ? header.number : -1,
    });
    if (info.beside) canvases.showCurve(psnr, still, 1 + 4 * info.length);
  };
  const offerBlocks = (blocks, value) => {
    one('.block').replaceChildren(...blocks.map(([words, shape]) => new Option(words, shape)));
    one('.block').value = blockOf(blocks, value);
  };
  const setSlider = (name, value) => {
    one(name).value = value;
    one(`${name} + output`).textContent = value.toFixed(2);
  };
  const preview = async () => {
    const mine = playing, image = new Image();
    image.src = start.picture;
    await image.decode();
    if (mine === playing && !info) canvases.showStart(image);
  };
  const buttons = () => {
    const why = whyNot();
    one('.go').textContent = running ? 'Pause' : ended ? 'Play again' : 'Play';
    for (const name of ['.go', '.single', '.reset']) one(name).disabled = Boolean(why);
    for (const name of ['.keep', '.film']) one(name).disabled = !info || number === first;
    one('.beside').hidden = !(start && start.beside);
    if (why) tell(why);
  };

  // ---- the connection

  const leave = () => {
    connection.close();
    info = null;
    running = opening = filming = false;
    wish = null;
    changes.clear();
    offerBlocks(props.value.blocks, one('.block').value);
  };
  const connect = () => {
    if (!connection.isUsable) {
      changes.clear();
      one('.told').dataset.last = '';
    }
    return connection.open();
  };
  const heard = (message) => {
    if (message.type === 'waiting') { waits = message.why; tell(waits); }
    else if (message.type === 'started' || message.type === 'changed') taken(message);
    else if (message.type === 'saved') saved(message);
    else if (message.type === 'ended') one('.told').dataset.last = message.why;
    else refused(message.why);
  };
  const refused = (why) => {
    running = opening = filming = false;
    asked = null;
    singles = 0;
    waits = '';
    trouble = why;
    changes.next();
    if (info) showSettings();
    tell(why);
    buttons();
    if (wish !== null) beginAgain();
  };
  const showSettings = () => {
    if (changes.isSent) return; // the visitor has chosen others meanwhile
    offerBlocks(info.blocks, info.block);
    setSlider('.temperature', info.temperature);
    setSlider('.guidance', info.guidance);
  };
  const taken = (message) => {
    if (message.type === 'started') first = 0;
    else if (message.model !== info.model) first = number;
    info = message;
    opening = false;
    waits = trouble = '';
    clock.rest();
    forgetPresses();
    keyTimes = new Recent(KEY_TIMES);
    if (message.type === 'changed') changes.next();
    else {
      clock = new Clock();
      psnr = [];
      still = [];
      sharpness = [];
      playing += 1;
      header = null;
      number = 0;
      asked = null;
      ended = false;
    }
    began = performance.now();
    showSettings();
    one('.truth').hidden = one('.curve').hidden = !info.beside;
    stage.classList.toggle('two', info.beside);
    one('.title').textContent = `${info.title}, ${info.model}`;
    one('.weights').textContent = `Measured here with ${info.weights}.`;
    picture.setAttribute('aria-label', `What the model ${info.model} makes of your keys`);
    for (const name of ['.block', ...SLIDERS]) one(name).disabled = info.is_replay;
    pad.draw(info.world, info.keys);
    buttons();
    wake();
    if (wish !== null) beginAgain();
    else if (message.type === 'started' && info.model !== model) follow();
  };
  const beginAgain = () => {
    const andRun = wish;
    wish = null;
    begin(andRun);
  };
  const saved = ({ id, name, recording }) => {
    waits = '';
    if (filming) { filming = false; trigger('select', { id }); return; }
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([JSON.stringify(recording)]));
    link.download = `${name}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const begin = async (andRun) => {
    if (!start || whyNot()) return;
    if (isLost(performance.now())) leave();
    running = andRun;
    if (opening && connection.isOpen) { wish = andRun; buttons(); return; } // after the answer
    const mine = ++begins;
    opening = true;
    trouble = '';
    tell(STARTING);
    await connect();
    if (mine !== begins) return; // another one was begun while the connection opened
    connection.send({
      type: 'begin', start: start.id, model: props.value.model,
      // The list may still be that of another model, which plays.
      block: blockOf(props.value.blocks, one('.block').value),
      temperature: Number(one('.temperature').value),
      guidance: Number(one('.guidance').value),
      seed: Math.min(2147483647, Math.max(0, Math.trunc(Number(one('.seed').value)) || 0)),
      beside: Boolean(start.beside && one('.beside input').checked),
    });
    focusStage();
    buttons();
  };

  // ---- the parts

  const connection = new Connection(() => socketAddress(location.href, window.gradio_config), {
    heard: (message) => heard(message),
    received: (buffer) => receive(buffer),
    ended: () => {
      leave();
      tell(one('.told').dataset.last || 'The connection ended. Press Play to begin anew.');
      buttons();
    },
  });
  const changes = new Changes((message) => connection.send(message));
  const change = (fields) => { if (connection.isOpen) changes.add(fields); };
  const forget = () => {
    pad.leave();
    connection.close();
  };
  const pad = new Pad(element, held, {
    isSeen, isPlaying: () => info !== null && running, gone: forget,
  });
  let byPointer = false; // whether a control was last set with the pointer, not with keys
  const focusStage = () => stage.focus({ preventScroll: true });
  const leaveKeys = () => { if (byPointer) focusStage(); };

  // ---- the loop

  const wantsMore = (now) => asked === null && !opening && (singles > 0 || running)
    && !(info.length && number >= info.length) && clock.left(now) <= delay.ahead;
  const tick = () => {
    if (!element.isConnected) { ticking = false; forget(); return; }
    if (info === null) { ticking = false; return; }
    requestAnimationFrame(tick);
    const now = performance.now(), gap = now - ticked;
    ticked = now;
    // A browser draws no page that is hidden, so that what came before says nothing of now.
    if (gap > HIDDEN_MS) { clock.rest(); forgetPresses(); began = now; }
    if (!isSeen()) { clock.rest(); forgetPresses(); return; }
    pad.look();
    if (!running || opening) forgetPresses();
    const next = clock.next(now);
    if (next) {
      next.skipped.forEach((frame) => pass(frame, now));
      canvases.show(next.frame);
      pass(next.frame, now);
    } else if (!running && !asked) clock.rest();
    if (wantsMore(now)) ask();
    if (now - written > FIGURES_MS) { written = now; write(now); buttons(); }
  };
  const wake = () => {
    if (ticking) return;
    ticking = true;
    ticked = performance.now();
    requestAnimationFrame(tick);
  };

  one('.go').addEventListener('click', () => {
    if (!opening && (info === null || ended)) { begin(true); return; }
    running = !running;
    if (wish !== null) wish = running;
    trouble = '';
    clock.rest();
    began = performance.now();
    focusStage();
    buttons();
  });
  one('.single').addEventListener('click', async () => {
    if (!opening && (info === null || ended)) await begin(false);
    running = false;
    trouble = '';
    singles = 1;
    buttons();
  });
  one('.reset').addEventListener('click', () => begin(true));
  one('.keep').addEventListener('click', () => connection.send({ type: 'save' }));
  one('.film').addEventListener('click', () => {
    if (filming) return; // the answer to a second click would be saved as a recording
    filming = true;
    connection.send({ type: 'save' });
  });
  one('.block').addEventListener('change', ({ target }) => {
    began = performance.now();
    change({ block: target.value });
  });
  for (const name of SLIDERS) {
    one(name).addEventListener('input', ({ target }) => setSlider(name, Number(target.value)));
    one(name).addEventListener('change', ({ target }) => {
      change({ [name.slice(1)]: Number(target.value) });
    });
  }
  one('.beside input').addEventListener('change', () => { if (info) begin(true); });
  // What the pointer has set needs no keys of its own, so the play receives them.
  element.addEventListener('pointerdown', () => { byPointer = true; });
  element.addEventListener('keydown', () => { byPointer = false; });
  for (const name of ['.block', ...SLIDERS]) one(name).addEventListener('change', leaveKeys);
  for (const name of [...SLIDERS, '.single', '.keep', '.film', '.pad']) {
    one(name).addEventListener('click', leaveKeys);
  }

  let model = null, chosen = null;
  // Another model was chosen at the top of the page.
  const follow = () => {
    if (whyNot()) running = false;
    else if (info.length) begin(running); else change({ model });
  };
  const load = () => {
    const value = props.value;
    if (!value) return;
    const isFirst = model === null, isOther = model !== value.model;
    model = value.model;
    if (isOther) setSlider('.guidance', value.guidance);
    if (value.start && value.start.chosen !== chosen) {
      chosen = value.start.chosen;
      start = value.start;
      if (!isFirst) { stage.scrollIntoView({ block: 'nearest' }); begin(true); }
    } else if (isOther && info) follow();
    if (!info) {
      one('.title').textContent = start ? start.title : '';
      offerBlocks(value.blocks, one('.block').value);
      if (start && start.picture) preview();
      pad.draw(start ? start.world : 'arm', null);
      tell(value.why || 'Press Play, then hold a key.');
    }
    buttons();
  };
  setSlider('.temperature', Number(one('.temperature').value));
  const narrow = matchMedia('(max-width: 640px)'); // where the settings can be folded
  const fold = () => { one('.options').open = !narrow.matches; };
  fold();
  narrow.addEventListener('change', fold);
  load();
  watch('value', load);
}

import { Clock, Delay, Recent } from './clock.js';
import {
  CURVE, blockOf, curvePoints, curveWords, figuresLine, keepSharpness, reachWords,
  slowWords,
} from './figures.js';
import { GRIP_CODE, Held, WORLDS, keepsKeys, moveOf, padState } from './keys.js';
import { Changes, readFrames, socketAddress } from './wire.js';

const FIGURES_MS = 250;
const SETTLED_MS = 2500; // before this the rate says nothing
const HIDDEN_MS = 1000;
const SILENT_MS = 10_000; // longer than any answer takes, beside its latent frame
const KEY_TIMES = 40;
const SLIDERS = ['.temperature', '.guidance'];
const STARTING = 'Starting.';
const LOST = 'No answer from the studio for more than 10 seconds. Reset begins anew, over a new'
  + ' connection.';
const LIFTS = ['pointerup', 'pointercancel'];

// The visitor's end of a play: the socket, the clock that shows frames, and what is held.
export function mount({ element, props, watch, trigger }) {
  const one = (name) => element.querySelector(name);
  const stage = one('.play-stage'), picture = one('.picture'), simulator = one('.simulator');
  const held = new Held(), delay = new Delay();
  const pads = { move: null, grip: false };
  let clock = new Clock(), keyTimes = new Recent(KEY_TIMES);
  let socket = null, info = null, start = null, header = null;
  let running = false, singles = 0, asked = null, number = 0, ended = false, filming = false;
  let opening = false; // a play was asked for, and what is asked now would be asked of it
  let connected = null, begins = 0, first = 0; // first: number of this play's first step
  let wish = null; // another play was asked for meanwhile: whether it is to run
  let spoke = 0; // when the page or the studio said something last
  let waits = '', trouble = '', began = 0, written = 0, ticking = false, ticked = 0, playing = 0;
  let psnr = [], still = [], sharpness = [];
  const pressed = new Map();

  const world = () => (info || start || { world: 'arm' }).world;
  const isSeen = () => element.isConnected && stage.checkVisibility();
  const tell = (text) => {
    if (one('.told').textContent !== text) one('.told').textContent = text;
  };
  const whyNot = () => (props.value ? props.value.why : '');
  const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;
  const send = (message) => {
    if (!isOpen()) return;
    spoke = performance.now();
    socket.send(JSON.stringify(message));
  };
  const changes = new Changes(send);
  const change = (fields) => { if (isOpen()) changes.add(fields); };

  // No connection tells that its network is gone: only answers that fail to come show it.
  const isLost = (now) => socket !== null && (opening || asked !== null) && !waits
    && now - spoke > SILENT_MS + (header ? header.sample_ms + header.decode_ms : 0);

  // ---- the picture

  const draw = (canvas, image, left, top, side) => {
    const ink = canvas.getContext('2d');
    ink.drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
  };
  const show = ({ image, index, side, beside }) => {
    draw(picture, image, 0, index * side, side);
    if (beside) draw(simulator, image, side, index * side, side);
  };
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
      if (info && info.length) lightPad(head.key);
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
    const { key, since } = held.take(world());
    if (since !== null) pressed.set(number, since);
    send({ type: 'step', number, key });
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
    if (info.beside) writeCurve();
  };
  const writeCurve = () => {
    const canvas = one('.psnr'), ink = canvas.getContext('2d');
    const colour = getComputedStyle(canvas).color;
    ink.clearRect(0, 0, canvas.width, canvas.height);
    ink.strokeStyle = colour;
    const line = (points, alpha) => {
      ink.globalAlpha = alpha;
      ink.beginPath();
      points.forEach(([x, y], i) => (i ? ink.lineTo(x, y) : ink.moveTo(x, y)));
      ink.stroke();
    };
    const points = (values) => (
      curvePoints(values, 1 + 4 * info.length, canvas.width, canvas.height));
    const at = canvas.height * (1 - (20 - CURVE.low) / (CURVE.high - CURVE.low));
    ink.setLineDash([]);
    ink.lineWidth = 1;
    line([[0, at], [canvas.width, at]], .4);
    ink.lineWidth = 2;
    line(points(psnr), 1);
    ink.setLineDash([4, 4]);
    line(points(still), .7);
    const words = curveWords(psnr, still);
    one('.curve figcaption').textContent = words;
    canvas.setAttribute('aria-label', words || 'No PSNR yet');
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
    if (mine === playing && !info) draw(picture, image, 0, 0, image.width);
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
    socket.close();
    socket = info = null;
    running = opening = filming = false;
    wish = null;
    changes.clear();
  };
  const connect = () => {
    // One that is still opening serves as well: each connection takes a player's place.
    if (socket && socket.readyState <= WebSocket.OPEN) return connected;
    const opened = new WebSocket(socketAddress(location.href, window.gradio_config));
    opened.binaryType = 'arraybuffer';
    connected = new Promise((resolve) => { opened.addEventListener('open', resolve); });
    changes.clear();
    opened.addEventListener('message', ({ data }) => {
      if (opened !== socket) return;
      spoke = performance.now();
      if (data instanceof ArrayBuffer) receive(data); else heard(JSON.parse(data));
    });
    opened.addEventListener('close', () => {
      if (opened !== socket) return;
      leave();
      tell(one('.told').dataset.last || 'The connection ended. Press Play to begin anew.');
      buttons();
    });
    one('.told').dataset.last = '';
    socket = opened;
    spoke = performance.now();
    return connected;
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
    drawPad();
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
    if (opening && isOpen()) { wish = andRun; buttons(); return; } // after the answer
    const mine = ++begins;
    opening = true;
    trouble = '';
    tell(STARTING);
    await connect();
    if (mine !== begins) return; // another one was begun while the connection opened
    send({
      type: 'begin', start: start.id, model: props.value.model,
      block: one('.block').value, temperature: Number(one('.temperature').value),
      guidance: Number(one('.guidance').value),
      seed: Math.min(2147483647, Math.max(0, Math.trunc(Number(one('.seed').value)) || 0)),
      beside: Boolean(start.beside && one('.beside input').checked),
    });
    focusStage();
    buttons();
  };

  // ---- the keys

  let byPointer = false; // whether a control was last set with the pointer, not with keys
  const focusStage = () => stage.focus({ preventScroll: true });
  const leaveKeys = () => { if (byPointer) focusStage(); };
  const drawPad = () => {
    const { moves, grip, hint } = WORLDS[world()];
    const known = info ? info.keys : null;
    const offered = moves.filter(([name]) => !known || known.includes(name));
    const made = offered.map(([name, sign, word]) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.dataset.move = name;
      button.dataset.place = moves.findIndex(([other]) => other === name);
      button.append(sign, document.createElement('span'));
      button.lastChild.textContent = word;
      return button;
    });
    if (grip) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'grip';
      button.dataset.place = moves.length;
      button.setAttribute('aria-pressed', String(held.grip));
      button.append('Space', document.createElement('span'));
      button.lastChild.textContent = 'grip';
      made.push(button);
    }
    one('.pad').replaceChildren(...made);
    one('.hint').textContent = hint;
  };
  const lightPad = (key) => {
    const move = key.replace('+grip', '');
    for (const button of one('.pad').querySelectorAll('[data-move]')) {
      button.classList.toggle('held', button.dataset.move === move);
    }
    const grip = one('.grip');
    if (grip) grip.setAttribute('aria-pressed', String(key.endsWith('+grip')));
  };
  const light = () => lightPad((held.moves.at(-1) ?? '') + (held.grip ? '+grip' : ''));
  const press = (move, holder) => { held.press(move, performance.now(), holder); light(); };
  const release = (holder) => { if (held.release(holder)) light(); };
  const toggleGrip = () => { held.toggleGrip(performance.now()); light(); };
  const isMine = (event) => {
    if (!isSeen() || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (keepsKeys(event.target)) return false;
    if (element.contains(event.target)) return true;
    return info !== null && running && event.target === document.body;
  };
  const keyDown = (event) => {
    if (!element.isConnected) { forget(); return; }
    if (!isMine(event)) return;
    if (event.target.closest('button, summary') && ['Space', 'Enter'].includes(event.code)) return;
    const move = moveOf(world(), event.code);
    if (move === null && event.code !== GRIP_CODE) return;
    event.preventDefault();
    if (event.repeat) return;
    if (move !== null) press(move, event.code); else if (WORLDS[world()].grip) toggleGrip();
  };
  const letGo = () => { held.releaseAll(); pads.move = null; light(); };
  // A Mac tells of no key that is let go while Command is held.
  const keyUp = ({ key, code }) => { if (key === 'Meta') letGo(); else release(code); };
  const lift = ({ pointerId }) => release(pointerId);
  const gamepad = () => {
    const pad = navigator.getGamepads && [...navigator.getGamepads()]
      .find((found) => found?.mapping === 'standard');
    if (!pad && !pads.move) return;
    // One that was unplugged holds nothing any more.
    const { move, grip } = pad ? padState(world(), pad) : { move: null, grip: false };
    if (move !== pads.move) {
      release('gamepad');
      if (move) press(move, 'gamepad');
      pads.move = move;
    }
    if (grip && !pads.grip && WORLDS[world()].grip) toggleGrip();
    pads.grip = grip;
  };
  const forget = () => {
    document.removeEventListener('keydown', keyDown);
    document.removeEventListener('keyup', keyUp);
    window.removeEventListener('blur', letGo);
    for (const name of LIFTS) document.removeEventListener(name, lift);
    if (socket) socket.close();
  };

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
    gamepad();
    if (!running || opening) forgetPresses();
    const next = clock.next(now);
    if (next) {
      next.skipped.forEach((frame) => pass(frame, now));
      show(next.frame);
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
  one('.keep').addEventListener('click', () => send({ type: 'save' }));
  one('.film').addEventListener('click', () => {
    if (filming) return; // the answer to a second click would be saved as a recording
    filming = true;
    send({ type: 'save' });
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
  one('.pad').addEventListener('pointerdown', (event) => {
    const button = event.target.closest('button');
    if (!button || event.button !== 0 || button.className === 'grip') return;
    button.setPointerCapture(event.pointerId);
    press(button.dataset.move, event.pointerId);
  });
  one('.pad').addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.classList.contains('grip')) toggleGrip();
    else if (event.detail === 0) { press(button.dataset.move); release(button.dataset.move); }
  });
  // What the pointer has set needs no keys of its own, so the play receives them.
  element.addEventListener('pointerdown', () => { byPointer = true; });
  element.addEventListener('keydown', () => { byPointer = false; });
  for (const name of ['.block', ...SLIDERS]) one(name).addEventListener('change', leaveKeys);
  for (const name of [...SLIDERS, '.single', '.keep', '.film', '.pad']) {
    one(name).addEventListener('click', leaveKeys);
  }
  document.addEventListener('keydown', keyDown);
  document.addEventListener('keyup', keyUp);
  window.addEventListener('blur', letGo);
  // On the page: the pad may be drawn anew while a button of it is held.
  for (const name of LIFTS) document.addEventListener(name, lift);

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
      drawPad();
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

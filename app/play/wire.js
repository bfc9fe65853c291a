// What goes over the socket; protocol.py describes it.

import { rootPath } from '../parts/page.js';

// `config` is Gradio's, `page` the address that the visitor sees.
export const socketAddress = (page, config) => {
  const url = new URL(page);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.pathname = `${rootPath(page, config)}/play/socket`;
  url.search = url.hash = '';
  return url.href;
};

// Sends one change of settings at a time. What is wanted before the answer is sent after it, at
// once and with its latest values: a slider asks faster than the engine follows.
export class Changes {
  constructor(send) {
    this.send = send;
    this.clear();
  }

  clear() {
    this.wanted = null;
    this.isSent = false;
  }

  add(fields) {
    this.wanted = { ...this.wanted, ...fields };
    if (!this.isSent) this.next();
  }

  // Called at an answer.
  next() {
    const { wanted } = this;
    this.wanted = null;
    this.isSent = wanted !== null;
    if (wanted) this.send({ type: 'change', ...wanted });
  }
}

// The socket of a play. `heard` receives each text message, parsed, and `received` each binary one;
// `ended` is called when the other side closes it. What an earlier socket still says is dropped.
export class Connection {
  // address(): the socket's.
  constructor(address, { heard, received, ended }) {
    Object.assign(this, { address, heard, received, ended });
    this.socket = null;
    this.opened = null;
    this.spoke = 0; // when the page or the studio said something last
  }

  get isThere() {
    return this.socket !== null;
  }

  get isOpen() {
    return this.isThere && this.socket.readyState === WebSocket.OPEN;
  }

  // Whether it is open, or about to be.
  get isUsable() {
    return this.isThere && this.socket.readyState <= WebSocket.OPEN;
  }

  // Resolves once it is open. One that is still opening serves as well: each connection takes a
  // player's place.
  open() {
    if (this.isUsable) return this.opened;
    const socket = new WebSocket(this.address());
    socket.binaryType = 'arraybuffer';
    this.opened = new Promise((resolve) => { socket.addEventListener('open', resolve); });
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.socket) return;
      this.spoke = performance.now();
      if (data instanceof ArrayBuffer) this.received(data); else this.heard(JSON.parse(data));
    });
    socket.addEventListener('close', () => {
      if (socket !== this.socket) return;
      this.socket = null;
      this.ended();
    });
    this.socket = socket;
    this.spoke = performance.now();
    return this.opened;
  }

  // Sends a message as JSON; nothing while it is not open.
  send(message) {
    if (!this.isOpen) return;
    this.spoke = performance.now();
    this.socket.send(JSON.stringify(message));
  }

  close() {
    const { socket } = this;
    this.socket = null;
    if (socket) socket.close();
  }
}

// A binary message: {header, picture}, the picture as bytes of a PNG.
export const readFrames = (buffer) => {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, picture: new Uint8Array(buffer, 4 + length) };
};

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

// A binary message: {header, picture}, the picture as bytes of a PNG.
export const readFrames = (buffer) => {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, picture: new Uint8Array(buffer, 4 + length) };
};

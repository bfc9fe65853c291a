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

// A binary message: {header, picture}, the picture as bytes of a PNG.
export const readFrames = (buffer) => {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, picture: new Uint8Array(buffer, 4 + length) };
};

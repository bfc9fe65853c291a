// The canvases of a play: the model's picture, the simulator's beside it, and their PSNR.

import { CURVE, curvePoints, curveWords } from './figures.js';

export class Canvases {
  constructor(element) {
    this.picture = element.querySelector('.picture');
    this.simulator = element.querySelector('.simulator');
    this.curve = element.querySelector('.psnr');
    this.words = element.querySelector('.curve figcaption');
  }

  // A frame of an answer: `index` counts the pictures of `side` pixels in the image, downwards. The
  // simulator's are to their right if it is beside.
  show({ image, index, side, beside }) {
    this.draw(this.picture, image, 0, index * side, side);
    if (beside) this.draw(this.simulator, image, side, index * side, side);
  }

  // The picture that a play will begin with.
  showStart(image) {
    this.draw(this.picture, image, 0, 0, image.width);
  }

  draw(canvas, image, left, top, side) {
    const ink = canvas.getContext('2d');
    ink.drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
  }

  // PSNR of each frame to the simulator's, of the model and of the first frame held still. `total`
  // frames fill the curve.
  showCurve(psnr, still, total) {
    const { curve } = this, { width, height } = curve, ink = curve.getContext('2d');
    const line = (points, alpha, wide, dashes) => {
      ink.globalAlpha = alpha;
      ink.lineWidth = wide;
      ink.setLineDash(dashes);
      ink.beginPath();
      points.forEach(([x, y], i) => (i ? ink.lineTo(x, y) : ink.moveTo(x, y)));
      ink.stroke();
    };
    const at = height * (1 - (20 - CURVE.low) / (CURVE.high - CURVE.low));
    ink.clearRect(0, 0, width, height);
    ink.strokeStyle = getComputedStyle(curve).color;
    line([[0, at], [width, at]], .4, 1, []);
    line(curvePoints(psnr, total, width, height), 1, 2, []);
    line(curvePoints(still, total, width, height), .7, 2, [4, 4]);
    const words = curveWords(psnr, still);
    this.words.textContent = words;
    curve.setAttribute('aria-label', words || 'No PSNR yet');
  }
}

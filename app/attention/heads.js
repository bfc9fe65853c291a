import { bytesOf, make } from '../parts/page.js';

// The mean or the maximum of a layer is a choice of all its heads.
export const isChosen = (chosen, layer, head) =>
  layer === chosen.layer && (head === chosen.head || typeof chosen.head === 'string');

// RGBA of levels 0 to 255, by a table of 256 RGB colours.
export const pixelsOf = (levels, colours) => {
  const pixels = new Uint8ClampedArray(4 * levels.length);
  levels.forEach((level, i) => {
    pixels.set(colours.subarray(3 * level, 3 * level + 3), 4 * i);
    pixels[4 * i + 3] = 255;
  });
  return pixels;
};

export function mount({ element, props, watch, trigger }) {
  const grid = element.querySelector('.heads');
  let buttons = [], known = '', drawn = '', chosen = { layer: 0, head: 'mean' };

  const build = ({ layers, heads, side }) => {
    grid.replaceChildren();
    grid.style.gridTemplateColumns = `max-content repeat(${heads}, minmax(2rem, 5rem))`;
    buttons = [];
    for (let layer = 0; layer < layers; layer++) {
      make('span', 'layer', grid).textContent = layer + 1;
      for (let head = 0; head < heads; head++) {
        const button = make('button', 'head', grid), canvas = make('canvas', '', button);
        button.type = 'button';
        button.setAttribute('aria-label', `Layer ${layer + 1}, head ${head + 1}`);
        canvas.width = canvas.height = side;
        button.addEventListener('click', () => {
          window.nbpHead = { layer, head };
          trigger('select', {});
        });
        buttons.push({ button, canvas, layer, head });
      }
    }
  };

  const press = () => buttons.forEach(({ button, layer, head }) => button.setAttribute(
    'aria-pressed', isChosen(chosen, layer, head)));

  const draw = () => {
    const view = props.value;
    if (!view?.layers) {
      buttons = [];
      known = '';
      grid.replaceChildren();
      return;
    }
    const size = [view.layers, view.heads, view.side].join();
    if (size !== known) { build(view); known = size; drawn = ''; }
    press();
    if (drawn === view.levels) return;
    drawn = view.levels;
    const levels = bytesOf(view.levels), colours = bytesOf(view.colours), area = view.side ** 2;
    buttons.forEach(({ canvas }, index) => {
      const context = canvas.getContext('2d');
      const image = context.createImageData(view.side, view.side);
      image.data.set(pixelsOf(levels.subarray(index * area, (index + 1) * area), colours));
      context.putImageData(image, 0, 0);
    });
  };
  document.addEventListener('nbp-attention-head', (event) => { chosen = event.detail; press(); });
  draw();
  watch('value', draw);
}

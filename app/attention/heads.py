"""All heads small, a button each: what is sent, and the script that draws it."""

from __future__ import annotations

from typing import Any, Final

from app.attention.map import base64_of
from nbp_core.attention_maps.pictures import Levels, colours


def heads_view(small: Levels) -> dict[str, Any]:
    """Thumbnails (layers, heads, side, side). Which is chosen, the full map tells the script."""
    layers, heads, side, _ = small.shape
    return {
        "layers": layers,
        "heads": heads,
        "side": side,
        "levels": base64_of(small),
        "colours": base64_of(colours()),
    }


HEADS_TEMPLATE: Final = '<div class="heads" role="group" aria-label="Heads of every layer"></div>'

HEADS_JS: Final = """
const grid = element.querySelector('.heads');
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
let buttons = [], known = '', drawn = '', chosen = { layer: 0, head: 'mean' };

const make = (tag, name, parent) => {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
};

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
      button.addEventListener('click', () => trigger('select', { layer, head }));
      buttons.push({ button, canvas, layer, head });
    }
  }
};

// Of a mean or a greatest weight, all heads of the layer are chosen.
const press = () => buttons.forEach(({ button, layer, head }) => button.setAttribute(
  'aria-pressed',
  layer === chosen.layer && (head === chosen.head || typeof chosen.head === 'string')));

const draw = () => {
  const view = props.value;
  if (!view || !view.layers) return;
  const size = [view.layers, view.heads, view.side].join();
  if (size !== known) { build(view); known = size; drawn = ''; }
  press();
  if (drawn === view.levels) return;
  drawn = view.levels;
  const levels = bytes(view.levels), colours = bytes(view.colours), area = view.side ** 2;
  buttons.forEach(({ canvas }, index) => {
    const context = canvas.getContext('2d'), image = context.createImageData(view.side, view.side);
    for (let i = 0; i < area; i++) {
      const from = 3 * levels[index * area + i];
      image.data.set([colours[from], colours[from + 1], colours[from + 2], 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  });
};
document.addEventListener('nbp-attention-head', (event) => { chosen = event.detail; press(); });
draw();
watch('value', draw);
"""

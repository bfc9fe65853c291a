"""All heads small, a button each: what is sent, and the script that draws it."""

from __future__ import annotations

from typing import Any, Final

from app.attention_map import base64_of
from nbp_core.attention_pictures import Levels, colours


def heads_view(small: Levels, layer: int, head: int | str) -> dict[str, Any]:
    """Thumbnails (layers, heads, side, side) and which is chosen; 'mean' and 'max' choose a row."""
    layers, heads, side, _ = small.shape
    return {
        "layers": layers,
        "heads": heads,
        "side": side,
        "levels": base64_of(small),
        "colours": base64_of(colours()),
        "layer": layer,
        "head": head,
    }


HEADS_TEMPLATE: Final = '<div class="heads" role="group" aria-label="Heads of every layer"></div>'

HEADS_JS: Final = """
const grid = element.querySelector('.heads');
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
let buttons = [], known = '', drawn = '';

const make = (tag, name, parent) => {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
};

const build = ({ layers, heads, side }) => {
  grid.replaceChildren();
  grid.style.gridTemplateColumns = `auto repeat(${heads}, minmax(2rem, 4rem))`;
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

const draw = () => {
  const view = props.value;
  if (!view || !view.layers) return;
  const size = [view.layers, view.heads, view.side].join();
  if (size !== known) { build(view); known = size; drawn = ''; }
  for (const { button, layer, head } of buttons) {
    const chosen = layer === view.layer && (head === view.head || typeof view.head === 'string');
    button.setAttribute('aria-pressed', chosen);
  }
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
draw();
watch('value', draw);
"""

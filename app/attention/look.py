"""Where one query looks, over the clip's frames: what is sent, and the script that draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from app.attention.map import base64_of
from app.parts.pictures import png_uri
from nbp_core.attention_maps.pictures import Head, colours
from nbp_core.media.video import Frames

if TYPE_CHECKING:
    from nbp_core.attention_maps.view import AttentionView, Look

Place = tuple[int, int, int]


def frame_of(latent: int, num_frames: int, num_latents: int) -> int:
    """The last of the frames that a latent frame stands for."""
    if num_latents == 1:
        return 0
    return latent * (num_frames - 1) // (num_latents - 1)


def look_row(
    view: AttentionView, layer: int, head: Head, place: int, title: str, num_frames: int
) -> dict[str, Any]:
    """One line of frames: the weights of the query that makes the token of a place."""
    query = view.query_of(place)
    look = view.look(layer, head, query)
    num_latents = view.grid[0]
    captions = []
    for t, weights_hw in enumerate(look.weights_thw):
        last = frame_of(t, num_frames, num_latents) + 1
        first = 1 if t == 0 else frame_of(t - 1, num_frames, num_latents) + 2
        frames = f"frame {last}" if first == last else f"frames {first} to {last}"
        captions.append(f"t{t + 1}, {frames}: {weights_hw.sum():.1%}")
    held = int(view.places_L[query]) if view.is_token_L[query] else -1
    return {
        "title": title,
        "row": query,
        "grid": list(view.grid),
        "weights": base64_of(look.weights_thw),
        "seen": base64_of(look.is_seen_thw.astype(np.uint8)),
        "captions": captions,
        "made": _place(view, place),
        "held": _place(view, held) if held >= 0 else None,
        "text": _text(view, query, place, look),
    }


def look_view(frames_THWC: Frames, num_latents: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The clip's own frames, one for each latent frame, and the looks to lay over them."""
    count = len(frames_THWC)
    shown = [frames_THWC[frame_of(t, count, num_latents)] for t in range(num_latents)]
    return {
        "frames": [png_uri(frame) for frame in shown],
        "colours": base64_of(colours()),
        "rows": rows,
    }


def _place(view: AttentionView, place: int) -> Place:
    t, h, w = (int(part) for part in np.unravel_index(place, view.grid))
    return t, h, w


def _text(view: AttentionView, query: int, place: int, look: Look) -> str:
    parts: Sequence[tuple[str, float]] = (
        ("tokens of the clip", float(look.weights_thw.sum())),
        ("middle tokens", look.middle),
        ("the condition", look.conditions),
        ("BOV", look.bov),
    )
    shares = ", ".join(f"{share:.1%} on {name}" for name, share in parts if share > 0)
    return (
        f"Query {query + 1} ({view.labels[query]}) makes token {view.place_words(place)}."
        f" Its weight: {shares}."
    )


LOOK_TEMPLATE: Final = """
<div class="rows"></div>
<p class="legend">Brighter: more weight, by the root of its share of the greatest. Grey: not seen by
this query. Blue frame: the token it makes. White frame: the token it holds.</p>
<p class="readout" role="status"></p>
"""

LOOK_JS: Final = """
const CELL = 16;
const HINT = 'Click a token to see where the query that made it looked; arrow keys move it.';
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const make = (tag, name, parent) => {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
};
const readout = element.querySelector('.readout');
let lines = [], pictures = [], sources = '', wanted = 0;

const outline = (context, [, h, w], colour, width) => {
  const inset = width / 2;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(
    w * CELL + inset, h * CELL + inset, CELL - 2 * inset, CELL - 2 * inset);
};

const paint = (canvas, row, t, colours) => {
  const [, height, width] = row.data.grid, context = canvas.getContext('2d');
  canvas.width = width * CELL;
  canvas.height = height * CELL;
  context.imageSmoothingEnabled = false;
  if (pictures[t]) context.drawImage(pictures[t], 0, 0, canvas.width, canvas.height);
  for (let h = 0; h < height; h++) for (let w = 0; w < width; w++) {
    const at = (t * height + h) * width + w;
    if (row.seen[at]) {
      // By the root of its share of the greatest weight, so that small ones show as well.
      const share = Math.sqrt(row.weights[at] / row.most), c = 3 * Math.round(255 * share);
      context.fillStyle =
        `rgba(${colours[c]}, ${colours[c + 1]}, ${colours[c + 2]}, ${.35 + .45 * share})`;
    } else {
      context.fillStyle = 'rgba(128, 128, 128, .8)';
    }
    context.fillRect(w * CELL, h * CELL, CELL, CELL);
  }
  if (row.data.held && row.data.held[0] === t) outline(context, row.data.held, '#ffffff', 2);
  if (row.data.made[0] === t) {
    outline(context, row.data.made, '#000000', 5);
    outline(context, row.data.made, '#22d3ee', 3);
  }
};

const pick = (row, place) => trigger('select', { pane: row.index, place });
const cell = (canvas, event, row) => {
  const box = canvas.getBoundingClientRect(), [, height, width] = row.data.grid;
  const clip = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value * count)));
  return [clip((event.clientY - box.top) / box.height, height),
    clip((event.clientX - box.left) / box.width, width)];
};
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const build = (index) => {
  const line = make('section', 'line', element.querySelector('.rows'));
  const row = { index, title: make('p', 'title', line), canvases: [], captions: [] };
  row.strip = make('div', 'strip', line);
  row.text = make('p', 'text', line);
  return row;
};

const addFrame = (row, t) => {
  const figure = make('figure', '', row.strip), canvas = make('canvas', '', figure);
  canvas.setAttribute('role', 'img');
  canvas.tabIndex = 0;
  row.captions.push(make('figcaption', '', figure));
  row.canvases.push(canvas);
  canvas.addEventListener('click', (event) => pick(row, [t, ...cell(canvas, event, row)]));
  canvas.addEventListener('pointermove', (event) => {
    const [h, w] = cell(canvas, event, row), [, height, width] = row.data.grid;
    const at = (t * height + h) * width + w;
    const weight = row.seen[at] ? row.weights[at].toPrecision(3) : 'not seen by this query';
    readout.textContent = `Token (${t + 1}, ${h + 1}, ${w + 1}): ${weight}.`;
  });
  canvas.addEventListener('keydown', (event) => {
    const step = KEYS[event.key], { made, grid } = row.data;
    if (!step) return;
    event.preventDefault();
    const from = made[0] === t ? made.slice(1) : [0, 0];
    const to = from.map((value, i) => Math.max(0, Math.min(grid[i + 1] - 1, value + step[i])));
    pick(row, [t, ...to]);
  });
};

const load = async (frames) => {
  pictures = await Promise.all(frames.map(async (source) => {
    const picture = new Image();
    picture.src = source;
    await picture.decode().catch(() => {});
    return picture;
  }));
};

const draw = async () => {
  const view = props.value;
  if (!view || !view.rows) return;
  const mine = ++wanted, same = view.frames.join() === sources;
  if (!same) await load(view.frames);
  if (mine !== wanted) return;
  sources = view.frames.join();
  const colours = bytes(view.colours);
  const isSame = lines.length === view.rows.length &&
    lines.every((row, i) => row.canvases.length === view.rows[i].captions.length);
  if (!isSame) {
    element.querySelector('.rows').replaceChildren();
    lines = view.rows.map((_, index) => build(index));
    lines.forEach((row, i) => view.rows[i].captions.forEach((_, t) => addFrame(row, t)));
  }
  lines.forEach((row, i) => {
    row.data = view.rows[i];
    row.weights = new Float32Array(bytes(row.data.weights).buffer);
    row.seen = bytes(row.data.seen);
    row.most = Math.max(row.weights.reduce((a, b) => Math.max(a, b), 0), 1e-9);
    row.title.textContent = row.data.title;
    row.text.textContent = row.data.text;
    row.canvases.forEach((canvas, t) => {
      const caption = row.data.captions[t];
      canvas.setAttribute('aria-label', `${row.data.title}, attention over ${caption}`);
      row.captions[t].textContent = caption;
      paint(canvas, row, t, colours);
    });
  });
  readout.textContent = HINT;
  document.dispatchEvent(
    new CustomEvent('nbp-attention-rows', { detail: view.rows.map((row) => row.row) }));
};
draw();
watch('value', draw);
"""

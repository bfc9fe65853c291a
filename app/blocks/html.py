"""The frame of the picture of a block shape, and the styles of the Blocks tab."""

from __future__ import annotations

from typing import Final

BLOCKS_TEMPLATE: Final = """
<div class="steps-bar">
  <button type="button" class="play">Play</button>
  <button type="button" class="back" aria-label="One step back">&minus;1</button>
  <button type="button" class="next" aria-label="One step on">+1</button>
  <input class="step" type="range" min="1" max="95" value="1" step="1" aria-label="Step">
</div>
<p class="told" aria-live="off"></p>
<canvas class="grid" role="img" tabindex="0" aria-label="Token grid"></canvas>
<ul class="key">
  <li><i class="made"></i>made before, darker is later</li>
  <li><i class="fed"></i>fed in this step</li>
  <li><i class="new"></i>made in this step</li>
  <li><i class="given"></i>given</li>
</ul>
<h2>Who may attend to whom</h2>
<div class="mask-row">
  <canvas class="mask" role="img" tabindex="0" aria-label="Attention mask"></canvas>
  <div>
    <p>A row is a position that asks, a column one it may look at, first to last from the top left.
      Blue: earlier blocks, and all of its own block, which looks both ways. With one token a block
      it is a triangle; with larger blocks, a staircase. The orange frame is what is fed in this
      step.</p>
    <label><input type="checkbox" class="zoom"> only the beginning, enlarged</label>
    <p class="read" aria-live="off"></p>
  </div>
</div>
"""

BLOCKS_CSS: Final = """
#blocks-picture .steps-bar { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
#blocks-picture button { padding: .25rem .8rem; min-height: 2rem; cursor: pointer;
  border-radius: var(--radius-md); color: var(--button-secondary-text-color);
  border: 1px solid var(--border-color-primary);
  background: var(--button-secondary-background-fill); }
#blocks-picture .play { min-width: 5rem; }
#blocks-picture .step { flex: 1 1 12rem; accent-color: var(--color-accent); }
#blocks-picture .told { min-height: 3em; margin: .5rem 0; }
#blocks-picture canvas { display: block; }
#blocks-picture .grid { width: 100%; color: var(--body-text-color); }
#blocks-picture .mask { width: 340px; max-width: 100%; flex: none;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
#blocks-picture .mask-row { display: flex; flex-wrap: wrap; gap: 1rem; }
#blocks-picture .mask-row > div { flex: 1 1 16rem; }
#blocks-picture .read { min-height: 3em; font-variant-numeric: tabular-nums; }
#blocks-picture h2 { margin: 1.2rem 0 .4rem; font-size: 1.1rem; }
#blocks-picture .key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: 0;
  list-style: none; font-size: .9rem; }
#blocks-picture .key li { margin: 0; }
#blocks-picture .key i { display: inline-block; width: .9em; height: .9em; margin-right: .4em;
  vertical-align: -.1em; background: #0072b2; }
#blocks-picture .key .fed { background: #009e73; }
#blocks-picture .key .new { background: #e69f00; }
#blocks-picture .key .given { background: rgba(128, 128, 128, .55); }
#blocks-picture :focus-visible { outline: 2px solid currentColor; outline-offset: 1px; }
#blocks-numbers dl { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: 0; }
#blocks-numbers dl > div { display: flex; flex-direction: column-reverse; }
#blocks-numbers dt { font-size: .85rem; color: var(--body-text-color-subdued); }
#blocks-numbers dd { margin: 0; font-weight: 700; font-variant-numeric: tabular-nums; }
#blocks-refusal p { margin: 0; font-weight: 700; color: #b91c1c; }
.dark #blocks-refusal p { color: #fca5a5; }
#blocks-shape .wrap { flex-direction: column; align-items: stretch; gap: .3rem; }
#blocks-shape label { padding: .2rem .6rem; }
#blocks-shape label span { display: flex; align-items: center; gap: .7rem; margin-left: .35rem; }
#blocks-stop { background: #b91c1c; color: #ffffff; }
#blocks-stop:disabled { background: var(--button-secondary-background-fill);
  color: var(--body-text-color-subdued); }
.blocks-chart text { fill: var(--body-text-color) !important;
  font-family: var(--font) !important; }
.blocks-chart .hoverlayer text { fill: #ffffff !important; }
#blocks-about p, #blocks-paper p, #blocks-measured p { max-width: 90ch; }
"""

"""What the controls know: uploads that are refused politely, choices with step counts, presets."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from app.generate import device_words
from app.media import block_name
from app.request import CONTEXT_FRAMES, Start
from app.session import Session
from nbp_core.config import CLIP_FPS, FIGURE6_SHAPES, Size3, format_block_shape

if TYPE_CHECKING:
    from nbp_core.pipeline import VideoPipeline

DEFAULT_BLOCK: Size3 = (1, 1, 16)
DEFAULT_GRID: Size3 = (5, 16, 16)
LENGTHS = (17, 33, 65)
MAX_TOP_K = 16_000
_FAVOURITES: dict[Start, str] = {"action": "door-open", "frame": "pan-left", "clip": ""}
_EXAMPLES: dict[Start, tuple[str, ...]] = {
    "frame": (".png", ".jpg", ".jpeg", ".webp"),
    "clip": (".mp4", ".webm", ".mov"),
}

# top-k, top-p, temperature, guidance. Fast also takes the block with the fewest steps.
PRESETS: dict[str, tuple[int, float, float, float]] = {
    "Fast": (2_000, 0.9, 1.0, 1.0),
    "Balanced": (2_000, 0.9, 0.9, 1.5),
    "Paper": (16_000, 0.9, 1.0, 1.0),
}


def hand_over_path(upload: gr.Image | gr.Video | gr.File) -> None:
    """Makes an upload arrive as a path, unopened: nbp_core.video refuses bad files, not Gradio."""
    # A subclass would be the usual way, but Gradio writes a stub beside the source of each.
    path_of = lambda payload: payload.path if payload else None  # noqa: E731
    upload.preprocess = path_of  # type: ignore[method-assign]


def refusal(error: ValueError) -> gr.Error:
    """The error as a note on the page: its own sentence and nothing else."""
    # Notes are shown as HTML, and the sentence may hold the name of an uploaded file.
    return gr.Error(escape(str(error), quote=False), title="", print_exception=False)


def examples(session: Session, start: Start) -> list[list[str]]:
    """The bundled pictures or clips to start from."""
    if session.assets is None:
        return []
    found = sorted(p for p in session.assets.rglob("*") if p.suffix in _EXAMPLES[start])
    return [[str(path)] for path in found]


def favourite(start: Start, names: tuple[str, ...]) -> str:
    """The action a start suggests: a robot's for none, a camera move for a picture."""
    wanted = _FAVOURITES[start]
    return wanted if wanted in names else names[0] if names and start == "action" else ""


def action_choices(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """What people read, and the name the model knows, of every action."""
    return [("no action", ""), *((name.replace("-", " "), name) for name in names)]


def length_choices() -> list[tuple[str, int]]:
    """'33 frames, 4.1 s' for every length."""
    return [(f"{frames} frames, {frames / CLIP_FPS:.1f} s", frames) for frames in LENGTHS]


def count_steps(
    session: Session, model: str | None, start: Start, num_frames: int
) -> dict[Size3, int]:
    """Forward steps of every block shape that suits the model and the start; empty without one."""
    try:
        pipeline = session.pipeline(model)
    except ValueError:
        return {}
    steps = {}
    for shape in pipeline.block_shapes:
        try:
            steps[shape] = pipeline.num_steps(shape, CONTEXT_FRAMES[start], num_frames)
        except ValueError:
            continue  # this block does not fit this start
    return steps


def block_choices(steps: dict[Size3, int]) -> list[tuple[str, str]]:
    """'row 1x1x16: 95 steps, 13x fewer' for every block shape."""
    most = max(steps.values(), default=0)
    choices = []
    for shape in steps or FIGURE6_SHAPES:
        label = f"{block_name(shape)} {format_block_shape(shape)}"
        if shape in steps:
            label += f": {steps[shape]:,} step" + "s" * (steps[shape] != 1)
            if most >= 1.5 * steps[shape]:
                label += f", {most / steps[shape]:.0f}x fewer"
        choices.append((label, format_block_shape(shape)))
    return choices


def preset_block(name: str, steps: dict[Size3, int]) -> str:
    """The block shape of a preset: the fewest steps for Fast, the paper's row for the others."""
    if name == "Fast" and steps:
        return format_block_shape(min(steps, key=lambda shape: steps[shape]))
    if DEFAULT_BLOCK in steps or not steps:
        return format_block_shape(DEFAULT_BLOCK)
    return format_block_shape(next(iter(steps)))


def action_names(session: Session, model: str | None) -> tuple[str, ...]:
    """The actions a model knows; none while it cannot be loaded."""
    try:
        return session.pipeline(model).actions
    except ValueError:
        return ()


def grid_of(session: Session, model: str | None) -> Size3:
    """The token grid of a model's clips."""
    try:
        return session.pipeline(model).grid
    except ValueError:
        return DEFAULT_GRID


def facts(pipeline: VideoPipeline) -> str:
    """What the chosen model is and where it runs, for the page's header."""
    size = pipeline.num_parameters / 1e6
    return (
        f"{size:,.1f}M parameters &middot; tokenizer {escape(pipeline.tokenizer_name)}"
        f" &middot; {escape(device_words(pipeline))}"
    )

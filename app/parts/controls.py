"""Choices of the controls with their step counts, presets and sampling sliders."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr

from app.clips.form import LENGTHS, Start
from app.clips.request import CONTEXT_FRAMES, read_actions
from app.clips.words import device_words
from app.parts.pictures import block_name
from app.session import Session
from nbp_core.config.shapes import CLIP_FPS, CLIP_FRAMES, FIGURE6_SHAPES, Size3, format_block_shape
from nbp_core.config.timeline import format_timeline

if TYPE_CHECKING:
    from nbp_core.generation.offer import ModelOffer
    from nbp_core.generation.pipeline import VideoPipeline

DEFAULT_BLOCK: Size3 = (1, 1, 16)
DEFAULT_GRID: Size3 = (5, 16, 16)
MAX_TOP_K = 16_000
_EXAMPLE = ("drawer-open", "drawer-close")
_FAVOURITES: dict[Start, str] = {"action": "drawer-close", "frame": "pan-left", "clip": ""}

# top-k, top-p, temperature, guidance. Fast also takes the block with the fewest steps. What lower
# temperatures are worth: docs/experiments.md, "Temperature and guidance".
PRESETS: dict[str, tuple[int, float, float, float]] = {
    "Fast": (16_000, 0.9, 0.7, 1.0),
    "Balanced": (16_000, 0.9, 0.7, 1.0),
    "Paper": (16_000, 0.9, 1.0, 1.0),
    "Photograph": (16_000, 0.9, 0.4, 1.0),
}


def hand_over_value(choice: gr.Dropdown | gr.Radio) -> None:
    """Lets the engine refuse what it does not know, in its own sentence.

    Gradio knows only the choices that were there when the page was built, not those of a model
    that was added since.
    """
    choice.preprocess = lambda payload: payload  # type: ignore[method-assign]


def while_empty(slider: gr.Slider, value: float) -> gr.Slider:
    """Makes a slider stand for `value` while its number is empty, since another is being typed.

    Gradio would call that an error.
    """
    usual = slider.preprocess
    slider.preprocess = (  # type: ignore[method-assign]
        lambda payload: usual(value if payload is None else payload)
    )
    return slider


def sampling_sliders(title: str, preset: str) -> tuple[gr.Slider, gr.Slider, gr.Slider, gr.Slider]:
    """(temperature, top-k, top-p, guidance) in a closed box, at first as a preset has them."""
    top_k, top_p, temperature, guidance = PRESETS[preset]
    with gr.Accordion(title, open=False):
        return (
            gr.Slider(
                0, 2, temperature, step=0.05, label="Temperature",
                info="Randomness. 0 always picks the most likely token; higher is more varied"
                " and less stable.",
            ),
            gr.Slider(
                1, MAX_TOP_K, top_k, step=1, label="Top-k",
                info="Sample among this many of the most likely tokens.",
            ),
            gr.Slider(
                0.05, 1, top_p, step=0.01, label="Top-p",
                info="Sample among the most likely tokens that together reach this probability.",
            ),
            gr.Slider(
                1, 6, guidance, step=0.1, label="Guidance",
                info="How strongly to follow the action (classifier-free guidance). 1 is off;"
                " above 1, each step does twice the work.",
            ),
        )  # fmt: skip


def favourite(start: Start, names: tuple[str, ...], is_needed: bool = False) -> str:
    """The action a start suggests: a robot's for none, a camera move for a picture."""
    wanted = _FAVOURITES[start]
    is_needed = is_needed or start == "action"
    return wanted if wanted in names else names[0] if names and is_needed else ""


def suited_temperature(start: Start, now: float, preset: str = "Balanced") -> float:
    """A picture keeps its shape longer at a low temperature; one that somebody chose stays.

    `preset` is the one that the page begins with.
    """
    first, picture = PRESETS[preset][2], PRESETS["Photograph"][2]
    if now not in (first, picture):
        return now
    return picture if start == "frame" else first


def action_choices(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """(label, the name that the model knows) of every action."""
    return [("no action", ""), *((name.replace("-", " "), name) for name in names)]


def action_menu(
    session: Session, model: str | None, start: Start, chosen: str | None = None
) -> tuple[list[tuple[str, str]], str]:
    """(the actions to choose from, the one to choose).

    That is the chosen one if it suits the model, else the one that the start suggests.
    """
    names, is_needed = action_names(session, model), _needs_action(session, model)
    choices = action_choices(names)[int(is_needed) :]
    if chosen is not None and any(name == chosen for _, name in choices):
        return choices, chosen
    return choices, favourite(start, names, is_needed)


def none_yet(start: Start, action: str | None, is_wanted: bool = False) -> str | None:
    """The action that was chosen for another model; None where this one should suggest one.

    is_wanted: whether the visitor chose it, so that no action is a choice too.
    """
    return None if start == "action" and not action and not is_wanted else action or ""


def _needs_action(session: Session, model: str | None) -> bool:
    try:
        return session.offer(model).needs_action
    except ValueError:
        return False


def length_choices() -> list[tuple[str, int]]:
    """'33 frames, 4.1 s' for every length."""
    return [(f"{frames} frames, {frames / CLIP_FPS:.1f} s", frames) for frames in LENGTHS]


def count_steps(
    session: Session, model: str | None, start: Start, num_frames: int
) -> dict[Size3, int]:
    """Forward steps of every block shape that suits the model and the start; empty without one."""
    try:
        offer = session.offer(model)
    except ValueError:
        return {}
    steps = {}
    for shape in offer.block_shapes:
        try:
            steps[shape] = offer.num_steps(shape, CONTEXT_FRAMES[start], num_frames)
        except ValueError:
            continue  # this block does not fit this start
    return steps


def suited_starts(session: Session, model: str | None, start: Start) -> tuple[list[Start], Start]:
    """(the starts a model can make clips from, the given one if it is among them, else another)."""
    offered = [one for one in CONTEXT_FRAMES if count_steps(session, model, one, CLIP_FRAMES)]
    if not offered:
        return list(CONTEXT_FRAMES), start
    return offered, start if start in offered else offered[-1]


_Menu = TypeVar("_Menu", gr.Radio, gr.Dropdown, gr.CheckboxGroup)


def refitted(
    menu: type[_Menu],
    choices: Sequence[str | tuple[str, str]],
    value: Any,
    before: Any,
    **more: Any,
) -> _Menu:
    """A menu with other choices, after something was chosen.

    Its value is sent only where it is not the one before: in the meantime, the visitor may have
    chosen another. `more` is what else is new of the menu.
    """
    if value != before:
        more["value"] = value
    return menu(choices=choices, **more)


def timeline_names(session: Session, model: str | None) -> tuple[str, ...]:
    """The actions that may follow each other within a clip of a model; none if they may not."""
    try:
        return session.offer(model).timeline_names
    except ValueError:
        return ()


def timeline_example(names: Sequence[str]) -> str:
    """A list of a model's own actions, such as 'drawer-open*4 drawer-close*8'."""
    first, second = _EXAMPLE if set(_EXAMPLE) <= set(names) else (*names, *names)[:2]
    return format_timeline([first] * 4 + [second] * 8)


def timeline_box(names: Sequence[str], text: str | None, before: str | None) -> gr.Textbox:
    """The list of actions, `before` until now, for a model with these names.

    It is emptied where the model lacks one of its actions, and hidden where the model has one
    action per clip.
    """
    value = text if names and _knows(names, text) else ""
    more: dict[str, Any] = {} if value == before else {"value": value}
    if names:
        more["placeholder"] = timeline_example(names)
    return gr.Textbox(visible=bool(names), **more)


def _knows(names: Sequence[str], text: str | None) -> bool:
    try:
        return set(read_actions(text)) <= set(names)
    except ValueError:  # it is being typed
        return True


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
    """The actions a model knows; none of one that is not there."""
    try:
        return session.offer(model).actions
    except ValueError:
        return ()


def grid_of(session: Session, model: str | None) -> Size3:
    """The token grid of a model's clips."""
    try:
        return session.offer(model).grid
    except ValueError:
        return DEFAULT_GRID


def loading(model: str) -> str:
    """The header's line while the chosen model is loaded."""
    return f"Loading {escape(model)}. A model of the paper's size takes up to a minute."


def facts(pipeline: VideoPipeline) -> str:
    """The header's line on the chosen model: size, tokenizer and device."""
    size = pipeline.num_parameters / 1e6
    return (
        f"{size:,.1f}M parameters &middot; tokenizer {escape(pipeline.tokenizer_name)}"
        f" &middot; {escape(device_words(pipeline))}"
    )


def first_facts(offer: ModelOffer) -> str:
    """The header's line on a model that is not loaded yet."""
    return f"Tokenizer {escape(offer.tokenizer_name)}"

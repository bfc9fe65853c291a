"""How a form becomes a call of the API: its values as they were sent, its names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from app.clips.form import Form


def hand_over_values(components: Sequence[Component]) -> None:
    """Makes values arrive as they were sent, for the form to check.

    Gradio rounds a seed of 1.5 to 2, and of other wrong values it says nothing that helps.
    """
    for component in components:
        component.preprocess = lambda payload: payload  # type: ignore[method-assign]
        if isinstance(component, gr.Radio):
            _document_numbers(component)


def _document_numbers(radio: gr.Radio) -> None:
    """Makes the API's page call numbers to choose from numbers: Gradio calls them texts."""
    choices = [value for _, value in radio.choices]
    if choices and all(isinstance(value, int) for value in choices):
        *most, last = map(str, choices)
        info = {"type": "integer", "description": f"{', '.join(most)} or {last}"}
        radio.api_info = lambda: info  # type: ignore[method-assign]


def call_of(
    handler: Callable[..., Iterator[Any]], names: Sequence[str], **first: Any
) -> Callable[..., Iterator[Any]]:
    """The handler as Gradio's API shows it, with these fields of the form as its parameters.

    `first` are parameters in front of them, with their defaults.
    """
    defaults = {f.name: f.default for f in fields(Form) if f.default is not MISSING}
    shown = {**first, **{name: defaults[name] for name in names}}

    def call(*values: Any) -> Iterator[Any]:
        yield from handler(*values)

    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, either, default=value) for name, value in shown.items()]
    )
    call.__doc__ = handler.__doc__
    return call

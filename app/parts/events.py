"""How the page's events are wired: none is part of the API, and a refusal is a note on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Final

import gradio as gr

from app.jobs import NO_SPACE
from nbp_core.media.files import is_full

Updates = dict[Any, Any]
"""New values of the page, by component."""
Menus = tuple[tuple[Callable[..., Any], list[Any], list[Any]], ...]
"""(handler, inputs, outputs) of each event that offers what the chosen model can do."""
OWN: Final[dict[str, Any]] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    # At every event the browser goes through all components that may show progress.
    "show_progress_on": [],
}
"""Arguments of events that may refuse something: only queued events can show a note."""
LIGHT: Final[dict[str, Any]] = {**OWN, "queue": False}
"""Arguments of events that cannot fail and should not wait in the queue."""
LAST: Final[dict[str, Any]] = {"trigger_mode": "always_last"}
"""A further argument of events by which something is chosen. If something else is chosen before the
answer comes, the last choice is answered after it. By default Gradio ignores further choices, but
not those of `change`.

Such an event has one handler, or its handlers are given by when(): to answer the last choice,
Gradio repeats the event with all its handlers. Two that are repeated so repeat each other, without
an end.
"""


def when(
    events: Sequence[Any],
    answer: Callable[..., Any],
    inputs: Any,
    outputs: Any,
    **arguments: Any,
) -> Any:
    """Answers events that others answer too; the last one is always answered.

    The event itself only starts the answer, which then is repeated alone. `arguments` are those of
    the answer, such as LIGHT; data of the event (`gr.EventData`) do not reach it.
    """
    started = gr.on(events, None, js="() => {}", **LIGHT)
    return started.then(answer, inputs, outputs, **arguments, **LAST)


def refusal(error: ValueError) -> gr.Error:
    """The error as a note on the page: its own sentence and nothing else."""
    # Notes are shown as HTML, and the sentence may hold the name of an uploaded file.
    return gr.Error(escape(str(error), quote=False), title="", print_exception=False)


@contextmanager
def refusals() -> Iterator[None]:
    """Makes a note of a ValueError raised inside, and of a full disk."""
    try:
        yield
    except ValueError as error:
        raise refusal(error) from error
    except OSError as error:
        if not is_full(error):
            raise
        raise refusal(ValueError(NO_SPACE)) from error

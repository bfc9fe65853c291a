"""How a form becomes a call of the API: its values as they were sent, its names and defaults."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, get_args

import gradio as gr
from gradio import processing_utils
from gradio.components import Component
from gradio.route_utils import FnIndexInferError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.clips.form import LENGTHS, Form, Start
from app.parts.events import refusal
from app.parts.uploads import hand_over_path
from nbp_core.config.json import shown

logger = logging.getLogger(__name__)

CALLS: Final[dict[str, Any]] = {"concurrency_limit": 8, "concurrency_id": "api"}
"""Arguments of calls: so many run or wait for the engine, and leave places there to the pages."""
MAX_CALLS: Final = 64
"""Further calls that wait."""
QUEUE_FULL: Final = "Too many jobs wait. Try again when one has ended."
_CHOICES: Final = {"start": get_args(Start), "num_frames": LENGTHS}
_MEANINGS: Final = {
    "model": "name of a model",
    "start": "what the clip starts from: an action alone, its first frame, or a clip to continue",
    "action": "action that the model knows, such as drawer-close; empty: none",
    "picture": "for start = frame: the first frame",
    "clip": "for start = clip: the clip whose first five frames are continued",
    "file": "picture or clip",
    "block": "block shape in tokens, time x height x width",
    "first": "block shape of the first runner, time x height x width",
    "second": "block shape of the second runner, time x height x width",
    "num_frames": "17, 33 or 65",
    "temperature": "divides the logits, 0 to 10; 0 takes the likeliest token",
    "top_k": "samples among this many of the likeliest tokens",
    "top_p": "samples among the likeliest tokens whose probabilities sum to this",
    "guidance": "scale of classifier-free guidance, 0 to 30; 1 is off",
    "seed": "seed of the random numbers, 0 to 2^63 - 1; null: one is drawn",
    "actions": "instead of one action, several with their numbers of latent frames, which set the"
    " length, such as drawer-open*4 drawer-close*8",
    "crop": "place of the square along the longer side of the picture or clip, 0 to 1",
    "layer": "layer, counted from 1",
    "head": "head, counted from 1, or mean or max of the layer",
}
"""What the values of a call mean."""


def hand_over_values(components: Sequence[Component]) -> None:
    """Makes values arrive as they were sent, for the form to check.

    Gradio rounds a seed of 1.5 to 2, and of other wrong values it says nothing that helps.
    """
    for component in components:
        component.preprocess = lambda payload: payload  # type: ignore[method-assign]


_PATH: Final = "/path/to/your/file"
_FILE: Final = {"path": _PATH, "url": _PATH, "meta": {"_type": "gradio.FileData"}}
_WRONG_FILE: Final = (
    ' must be an uploaded file, handle_file("...") in Python and {"path": "...", "meta": {"_type":'
    ' "gradio.FileData"}} in JSON, not '
)
_SEE: Final = " The API's page lists the calls and their values."
_NAMES: Final = (
    (re.compile(r"Parameter `(\w{1,40})` is"), "has no parameter"),
    (re.compile(r"No value provided for required argument: (\w{1,40})$"), "needs the parameter"),
)
"""What Gradio says of the names in a call, and what the studio does."""


def refuse_wrong_values(blocks: gr.Blocks) -> None:
    """Makes values that Gradio itself refuses one sentence and one line of the log.

    Gradio would log a traceback, and of most values it would say nothing.
    """
    preprocess = blocks.preprocess_data

    async def checked(
        block_fn: Any, inputs: list[Any], state: Any, *others: Any, **named: Any
    ) -> Any:
        _hand_over_in(state, block_fn.inputs)
        try:
            return await preprocess(block_fn, inputs, state, *others, **named)
        except OSError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            logger.warning("values for %s were refused: %s", block_fn.name, what)
            said = error.message if isinstance(error, gr.Error) else _wrong_values(block_fn, inputs)
            raise refusal(ValueError(said or f"These values cannot be read.{_SEE}")) from error

    blocks.preprocess_data = checked  # type: ignore[method-assign]


def leave_room_for_pages(blocks: gr.Blocks) -> None:
    """Limits how many calls wait, without a page's events being refused because of them.

    Gradio has one limit for both. A page's events have no other one, and hardly wait. Where one is
    refused all the same, the page shows the sentence of an answer that is not 503: of that one it
    says its own.
    """
    queue, push = blocks._queue, blocks._queue.push

    async def pushed(body: Any, **others: Any) -> Any:
        fn = blocks.fns.get(body.fn_index)
        is_call = fn is not None and fn.concurrency_id == CALLS["concurrency_id"]
        queue.max_size = MAX_CALLS if is_call else 2 * MAX_CALLS
        success, event, state = await push(body=body, **others)
        if state == "queue_full":
            if not is_call:
                raise HTTPException(429, QUEUE_FULL)
            event = QUEUE_FULL
        return success, event, state

    queue.push = pushed  # type: ignore[assignment, method-assign]


async def _refuse_wrong_call(request: Request, error: Exception) -> Response:
    if request.scope.get("method") != "POST":  # such as a player's WebSocket
        raise error
    logger.warning("a call of %s was refused: %r", request.url.path, error)
    said = "The studio cannot read this request"
    for pattern, what in _NAMES:
        if found := pattern.match(str(error)):
            said = f"This call {what} {found[1]}"
    return PlainTextResponse(f"{said}.{_SEE}", 400)


WRONG_CALLS: Final = dict.fromkeys(
    (FnIndexInferError, KeyError, TypeError, ValueError), _refuse_wrong_call
)
"""What answers to the errors that Gradio meets when it looks for an event or a component that a
request names, or puts its values in order. Gradio has no answer to them, and would log a traceback.
"""


def _hand_over_in(state: Any, components: Sequence[Any]) -> None:
    """Gives a visitor's copies of the components our `preprocess`.

    Gradio copies a component for a visitor once an answer has changed it. The copy would check
    values against its present choices, while the page may still send an earlier one.
    """
    for component in components:
        handed_over = vars(component).get("preprocess")
        if state is not None and handed_over is not None and component._id in state:
            state[component._id].preprocess = handed_over


def refuse_downloads() -> None:
    """Makes Gradio refuse addresses in place of files, in every page of this process.

    It would download them from other machines, to which the studio makes no request.
    """

    async def refused(url: str, cache_dir: str) -> str:
        raise gr.Error("The studio downloads no files: upload the file itself, not its address.")

    processing_utils.async_ssrf_protected_download = refused


def _wrong_values(block_fn: Any, inputs: list[Any]) -> str:
    """The sentence on missing values, or on the first that is no upload where a file belongs."""
    if len(inputs) < len(block_fn.inputs):
        return f"This call needs {len(block_fn.inputs)} values in order, not {len(inputs)}.{_SEE}"
    names = inspect.signature(block_fn.fn).parameters
    for name, block, value in zip(names, block_fn.inputs, inputs, strict=False):
        model: Any = getattr(block, "data_model", None)
        is_file = model is not None and "path" in model.model_fields
        if is_file and value is not None and not _is_upload(model, value):
            return f"{name}{_WRONG_FILE}{shown(value)}"
    return ""


def _is_upload(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate(value, context={"validate_meta": True})
        processing_utils.check_all_files_in_cache(value)
    except (ValueError, OSError, gr.Error):
        return False
    return True


def _document(part: Component, meaning: str) -> None:
    """Makes the API's page say what a value means, and call numbers to choose from numbers.

    Gradio calls those texts, and describes its own class for files.
    """
    info = {**part.api_info(), "description": meaning, "additional_description": meaning}
    if isinstance(part, gr.Radio) and isinstance(part.value, int):
        info = {key: value for key, value in info.items() if key != "enum"} | {"type": "integer"}
    part.api_info = lambda: info  # type: ignore[method-assign]


def defaults_of(names: Sequence[str]) -> dict[str, Any]:
    """The defaults of these fields of the form, in this order."""
    defaults = {f.name: f.default for f in fields(Form)}
    return {name: defaults[name] for name in names}


def call_of(
    handler: Callable[..., Iterator[Any]], defaults: Mapping[str, Any]
) -> Callable[..., Iterator[Any]]:
    """The handler as Gradio's API shows it, with these parameters and their defaults."""

    def call(*values: Any) -> Iterator[Any]:
        yield from handler(*values)

    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, either, default=value) for name, value in defaults.items()]
    )
    call.__doc__ = handler.__doc__
    return call


def inputs_of(defaults: Mapping[str, Any], **meanings: str) -> list[Component]:
    """The inputs of such a call, to be built where nothing is seen.

    Gradio takes a call's defaults from its inputs, so those of the page would give the page's.
    `meanings` are those that differ from the usual ones.
    """
    parts = {name: _input(name, value) for name, value in defaults.items()}
    hand_over_values([part for part in parts.values() if not isinstance(part, gr.File)])
    for name, part in parts.items():
        _document(part, (_MEANINGS | meanings)[name])
    return list(parts.values())


def _input(name: str, default: Any) -> Component:
    if name in _CHOICES:
        return gr.Radio(_CHOICES[name], value=default, label=name)
    if name in ("picture", "clip", "file"):
        upload = gr.File(label=name)
        hand_over_path(upload)
        upload.example_inputs = lambda: _FILE  # type: ignore[method-assign]
        return upload
    if name in ("top_k", "seed", "layer"):
        return gr.Number(default, label=name, precision=0)
    return (gr.Number if isinstance(default, float) else gr.Text)(default, label=name)

"""The page's own events, called raw: nothing gets past the checks that its controls make."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.state_holder import SessionState
from PIL import Image

from app import ui
from app.parts.api import hand_over_values, refuse_wrong_values
from tests.support.engine import fake_session, small_clips

SECRET = "a sentence that no visitor may read"
SETTINGS = {
    "software": "NBP Studio", "model": SECRET, "action": None, "context": None, "num_frames": 17,
    "block_shape": "1x1x16",
    "sampling": {
        "temperature": 1.0, "top_k": 10, "top_p": 0.9, "guidance_scale": 1.0, "seed": 1,
        "method": "paper",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of this machine that are not the studio's: a text, a picture."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "text.json").write_text(json.dumps(SETTINGS))
    Image.new("RGB", (40, 40), "teal").save(folder / "picture.png")
    return [folder / "text.json", folder / "picture.png"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path]]:
    session, _ = fake_session(tmp_path_factory.mktemp("studio") / "models", step_s=0)
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    with small_clips():
        yield url, session.uploads, session.models
    blocks.close()
    session.close()


def tries(num_inputs: int, paths: list[Path]) -> Iterator[list[Any]]:
    """What a caller may send in place of the values of an event's inputs."""
    for path in paths:
        yield [str(path)] * num_inputs
        yield [{"path": str(path), "meta": {"_type": "gradio.FileData"}}] * num_inputs
    odd: tuple[Any, ...] = (None, "x", {})
    for value in odd:
        yield [value] * num_inputs


class Caller:
    """Somebody who knows the page's private events."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        found = self.http.get("config").json()["dependencies"]
        self.events: list[dict[str, Any]] = [event for event in found if event["backend_fn"]]

    def call(self, event: dict[str, Any], values: list[Any]) -> str:
        """The answer to values that no control has checked."""
        sent = {"fn_index": event["id"], "data": values, "session_hash": "raw"}
        if not event["queue"]:
            return self.http.post("gradio_api/run/predict", json=sent).text
        self.http.post("gradio_api/queue/join", json=sent).raise_for_status()
        return self.http.get("gradio_api/queue/data", params={"session_hash": "raw"}).text


def test_the_last_choice_of_a_control_is_answered(studio: tuple[str, Path, Path]) -> None:
    """Also one that is made while an earlier choice is answered: the page would show that."""
    events = Caller(studio[0]).http.get("config").json()["dependencies"]
    inputs = [e["id"] for e in events if any(name == "input" for _, name in e["targets"])]
    chosen = [e for e in events if e["backend_fn"] and {e["id"], e["trigger_after"]} & {*inputs}]
    assert len(chosen) > 15
    assert {event["trigger_mode"] for event in chosen} == {"always_last"}


def test_no_two_events_repeat_each_other(studio: tuple[str, Path, Path]) -> None:
    """Gradio answers the last choice by repeating the event with all its handlers: where two of
    them repeat it, they do so without an end."""
    repeated = Counter(
        (part, name)
        for event in Caller(studio[0]).events if event["trigger_mode"] == "always_last"
        for part, name in event["targets"] if part is not None
    )  # fmt: skip
    assert len(repeated) > 15
    assert set(repeated.values()) == {1}


def test_no_event_goes_past_the_queue(studio: tuple[str, Path, Path]) -> None:
    """Past it there is no limit to how many run and wait."""
    caller = Caller(studio[0])
    queued = [event for event in caller.events if event["queue"]]
    assert len(queued) > 20
    for event in queued:
        sent = {"fn_index": event["id"], "data": [None] * len(event["inputs"])}
        for name in ("predict", event["api_name"]):
            answer = caller.http.post(f"gradio_api/run/{name}", json=sent)
            assert answer.status_code == 404
            assert "does not accept direct HTTP POST requests" in answer.json()["detail"]


def test_raw_events_read_no_file_and_run_on(
    studio: tuple[str, Path, Path], others: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    url, uploads, models = studio
    caller = Caller(url)
    before = sorted(path.name for path in models.iterdir())
    private = others[1].read_bytes()
    assert len(caller.events) > 50
    for event in caller.events:
        for values in tries(len(event["inputs"]), others):
            assert SECRET not in caller.call(event, values)
    copies = [path for path in uploads.rglob("*") if path.is_file()]
    assert not [path for path in copies if path.read_bytes() == private]
    assert sorted(path.name for path in models.iterdir()) == before
    assert caller.http.get("").status_code == 200
    assert "gradio.exceptions" not in capfd.readouterr().err, "a line of the log, no traceback"


def test_no_event_downloads_a_file(
    studio: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def get(url: str) -> Any:
        asked.append(url)
        raise ConnectionError

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_get", get)
    caller = Caller(studio[0])
    value = {"path": "https://other.example/x.png", "meta": {"_type": "gradio.FileData"}}
    for event in caller.events:
        caller.call(event, [value] * len(event["inputs"]))
    assert not asked


def test_a_file_that_was_read_would_be_seen(
    studio: tuple[str, Path, Path], others: list[Path]
) -> None:
    caller = Caller(studio[0])
    with others[0].open("rb") as file:
        (uploaded,) = caller.http.post("gradio_api/upload", files={"files": file}).json()
    value = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    single = [event for event in caller.events if len(event["inputs"]) == 1]
    assert any(SECRET in caller.call(event, [value]) for event in single)


def test_a_start_of_the_model_before_is_not_refused() -> None:
    """A page may send it once more after an answer has changed the choices of the session."""
    with gr.Blocks() as blocks:
        radio = gr.Radio(["action", "frame"], value="action")
        hand_over_values([radio])
        button, said = gr.Button(), gr.Text()
        button.click(lambda: gr.Radio(choices=["frame"], value="frame"), None, radio)
        button.click(lambda value: value, radio, said)
    refuse_wrong_values(blocks)
    first, second = (blocks.fns[index] for index in sorted(blocks.fns))
    state = SessionState(blocks)

    async def change_and_send() -> Any:
        await blocks.process_api(first, [], state=state)
        return await blocks.process_api(second, ["action"], state=state)

    with ThreadPoolExecutor(1) as pool:  # a browser test has a loop in this thread
        answer = pool.submit(lambda: asyncio.run(change_and_send())).result()
    assert answer["data"] == ["action"]

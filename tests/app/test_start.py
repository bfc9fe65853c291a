"""How the studio starts: the page first, then what takes long to import and to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio.routes import App

from app import ui
from app.parts import controls
from app.session import Session
from nbp_core.generation.offer import ModelOffer, read_offer
from nbp_core.generation.pipeline import VideoPipeline
from tests.support.engine import fake_session
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
LATER = (
    "accelerate", "llvmlite", "matplotlib", "numba", "scipy", "sklearn", "skimage", "torch",
    "transformers",
)  # fmt: skip
"""Packages that the page is served without: each takes from a tenth of a second to two."""

LOOK = """
import json, sys, urllib.request
from app import main, session

port, clips, *later = sys.argv[1:]

def look(self, name):
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
    import gradio.component_meta
    found = {
        "is_page": "NBP Studio" in page,
        "first": name,
        "imported": [package for package in later if package in sys.modules],
        "writes_stubs": gradio.component_meta.create_or_modify_pyi.__module__.startswith("gradio"),
    }
    print(json.dumps(found), file=sys.stderr)
    raise KeyboardInterrupt

session.Session.load_soon = look
main.main(["--port", port, "--clips-dir", clips, "--models", "weights"])
"""


def started(folder: Path) -> dict[str, Any]:
    """What is found of a new studio as soon as its page is served; its files are in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(free_port()), str(folder / "clips"), *LATER],
        check=False, capture_output=True, text=True, timeout=100, cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    assert done.stderr, done.stdout
    return dict(json.loads(done.stderr.splitlines()[0]))


FOUND = {"is_page": True, "first": "small", "imported": [], "writes_stubs": False}


def test_the_page_is_served_before_torch_is_imported(tmp_path: Path) -> None:
    assert started(tmp_path) == FOUND


@pytest.mark.skipif(os.name != "posix", reason="Windows has a folder of each user's own")
def test_nothing_is_written_where_other_users_do(tmp_path: Path) -> None:
    """Gradio's usual folder is the same for all users, and belongs to the first of them."""
    (tmp_path / "gradio").touch()
    assert started(tmp_path) == FOUND


CRASH = """
import os, signal, sys
from app import main, session

def crashing(self, name):
    os.kill(os.getpid(), signal.SIGSEGV)

session.Session.load_soon = crashing
main.main(["--port", sys.argv[1], "--clips-dir", sys.argv[2], "--models", "weights"])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a signal that a crash sends")
def test_a_crash_in_compiled_code_names_the_call_on_the_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(free_port()), str(tmp_path / "clips")],
        check=False, capture_output=True, text=True, timeout=100, cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONFAULTHANDLER": ""},
    )  # fmt: skip
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in crashing" in done.stderr


END = """
import os, signal, sys
from app import library, main

library.data_folder = lambda: os.kill(os.getpid(), signal.SIGTERM)
main.main(["--port", sys.argv[1]])
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is POSIX's")
def test_a_service_that_is_ended_while_it_starts_did_well() -> None:
    done = subprocess.run(
        [sys.executable, "-c", END, str(free_port())],
        check=False, capture_output=True, text=True, timeout=100, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_page_gets_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[App] = []
    usual = App.__init__

    def count(self: App, *args: Any, **options: Any) -> None:
        made.append(self)
        usual(self, *args, **options)

    monkeypatch.setattr(App, "__init__", count)
    session, _ = fake_session(tmp_path / "models")
    blocks = ui.build(session)
    assert made == []
    ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    assert made == [blocks.app]
    blocks.close()
    session.close()


def test_a_first_page_that_takes_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine Gradio's look at its own page can take longer than it waits."""

    def late(*args: Any, **options: Any) -> None:
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr("gradio.networking.httpx.head", late)
    session, _ = fake_session(tmp_path / "models")
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    assert httpx.get(url, trust_env=False).status_code == 200
    blocks.close()
    session.close()


def test_an_event_is_not_followed_by_figures_of_all_events(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models")
    queue: Any = ui.build(session)._queue
    queue.events_recorded = 1
    event = {"function": "go", "status": "success", "process_time": 1.0}
    assert queue.compute_analytics_summary([event]) == {"functions": {}}
    session.close()


def told(offer: ModelOffer) -> dict[str, Any]:
    """Everything that the page shows of a model that need not be loaded."""
    steps = {
        (shape, known, frames): offer.num_steps(shape, known, frames)
        for shape in offer.block_shapes for known in (0, 1, 5) for frames in (17, 33)
    }  # fmt: skip
    names = ("name", "actions", "grid", "timeline_names", "worlds", "window", "tokenizer_name")
    return {"steps": steps, **{name: getattr(offer, name) for name in names}}


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_a_model_offers_the_same_before_it_is_loaded(name: str) -> None:
    folder = ROOT / "weights" / name
    assert told(read_offer(folder)) == told(VideoPipeline.from_pretrained(folder, "cpu"))


def test_whoever_wants_the_first_model_waits_until_it_is_loaded(tmp_path: Path) -> None:
    go, loads = threading.Event(), []

    def load(name: str) -> Any:
        loads.append(name)
        assert go.wait(30)
        return name

    _, _ = fake_session(tmp_path / "models")
    session = Session(tmp_path / "models", "cpu", load=load)
    session.load_soon("fake")
    waiting = threading.Thread(target=session.pipeline, args=["fake"])
    waiting.start()
    assert session.loaded("fake") is None
    go.set()
    waiting.join(30)
    assert session.loaded("fake") is not None
    assert loads == ["fake"]
    session.close()


def test_a_first_model_that_cannot_be_loaded_is_told_to_who_wants_it(tmp_path: Path) -> None:
    def load(name: str) -> Any:
        raise ValueError(f"model {name!r} is corrupt")

    fake_session(tmp_path / "models")
    session = Session(tmp_path / "models", "cpu", load=load)
    session.load_soon("fake")
    with pytest.raises(ValueError, match="is corrupt"):
        session.pipeline("fake")
    session.close()


def test_the_header_first_says_what_is_known_without_the_model(tmp_path: Path) -> None:
    session = Session(ROOT / "weights", "cpu")
    assert controls.first_facts(session.offer("tiny")) == "Tokenizer nano"
    assert session.loaded("tiny") is None
    session.close()

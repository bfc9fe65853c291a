"""The studio on a fake engine, and a Chromium that tattles on errors and on outside requests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
PATIENCE_MS = 60_000
"""A page on two busy cores may take this long to answer."""

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported


@dataclass(frozen=True)
class Studio:
    """A served studio and the engine behind it."""

    url: str
    pipeline: Any


_TRIAL = """
import sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    playwright.chromium.launch(executable_path=sys.argv[1], args=sys.argv[2:]).close()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of this folder, and has what fails tried once more: a browser on a machine
    busy with other work can stall beyond any patience, and a fault of ours shows twice."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.flaky(reruns=1))


def why_no_browser(chromium: Path) -> str | None:
    """What stands in the way of a browser, found by starting one; None when it runs."""
    if not chromium.exists():
        return f"no browser at {chromium} (set $CHROMIUM)"
    # Apart from this process: a missing library (libatomic1) ends the program that needs it.
    command = [sys.executable, "-c", _TRIAL, str(chromium), *FLAGS.split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None  # slow is not broken: the tests will tell
    if done.returncode == 0:
        return None
    faults = [line for line in done.stderr.splitlines() if "error while loading" in line]
    return f"{chromium} does not start: {(faults or done.stderr.splitlines() or ['?'])[-1].strip()}"


@pytest.fixture(scope="session", autouse=True)
def working_browser() -> None:
    """Skips the tests of this folder, with the reason, where no browser can be started."""
    reason = why_no_browser(CHROMIUM)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {
        **browser_type_launch_args,
        "executable_path": str(CHROMIUM),
        "args": FLAGS.split(),
    }


def serve(session: Any) -> Iterator[str]:
    from app import ui

    blocks = ui.build(session)
    yield ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    blocks.close()
    session.close()


@pytest.fixture(scope="package")
def fake_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    yield from serve_fake(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def empty_studio(tmp_path: Path) -> Iterator[Studio]:
    """A fake studio in which no other test has made a clip."""
    yield from serve_fake(tmp_path / "studio")


def serve_fake(folder: Path) -> Iterator[Studio]:
    from tests.support.engine import fake_session

    session, pipeline = fake_session(folder / "models")
    for url in serve(session):
        yield Studio(url, pipeline)


def serve_small_models(folder: Path) -> Iterator[str]:
    """A studio of real, tiny models with two bundled clips; yields its address."""
    from app.session import Session
    from nbp_core.media.video import write_video
    from tests.support.models import save_pipeline

    models, assets = save_pipeline(folder / "models").parent, folder / "assets"
    assets.mkdir()
    rng = np.random.default_rng(0)
    for name in ("door-open", "drawer-close"):
        write_video(assets / f"{name}.mp4", rng.integers(0, 255, (5, 128, 128, 3), np.uint8))
    yield from serve(Session(models, "cpu", assets=assets, is_local=True))


@pytest.fixture
def studio(fake_studio: Studio) -> Studio:
    """The fake studio at its usual speed."""
    fake_studio.pipeline.step_s = 0.01
    fake_studio.pipeline.fault_at = None
    return fake_studio


LEFT = ("AbortError: signal is aborted", "Connection errored out")
"""What Gradio says of a request that is under way when a page is left or loaded anew."""


@contextmanager
def watched(page: Any) -> Iterator[Any]:
    """A page that fails its test for a console error or a request that leaves this machine."""
    faults: list[str] = []

    def read(message: Any) -> None:
        if message.type == "error" and not any(said in message.text for said in LEFT):
            faults.append(message.text)

    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    page.on("console", read)
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1:", "data:", "blob:"))
            else faults.append(f"outside request: {request.url}")
        ),
    )
    yield page
    assert faults == []


@pytest.fixture
def page(page: Any) -> Iterator[Any]:
    with watched(page) as seen:
        yield seen

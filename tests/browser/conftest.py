"""The studio on a fake engine, and a Chromium that tattles on errors and on outside requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
_FLAGS = (
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of this folder, and skips them where they cannot run."""
    here = Path(__file__).parent
    missing = None if CHROMIUM.exists() else f"no browser at {CHROMIUM} (set $CHROMIUM)"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {
        **browser_type_launch_args,
        "executable_path": str(CHROMIUM),
        "args": _FLAGS.split(),
    }


def serve(session: Any) -> Iterator[str]:
    from app import ui

    blocks = ui.build(session)
    yield ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    blocks.close()
    session.close()


@pytest.fixture(scope="session")
def fake_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    from tests.app_fakes import fake_session

    session, pipeline = fake_session(tmp_path_factory.mktemp("studio") / "models")
    for url in serve(session):
        yield Studio(url, pipeline)


@pytest.fixture
def studio(fake_studio: Studio) -> Studio:
    """The fake studio at its usual speed."""
    fake_studio.pipeline.step_s = 0.01
    fake_studio.pipeline.fault_at = None
    return fake_studio


@pytest.fixture
def page(page: Any) -> Iterator[Any]:
    """A page that fails its test for a console error or a request that leaves this machine."""
    faults: list[str] = []
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    page.on(
        "console",
        lambda message: faults.append(message.text) if message.type == "error" else None,
    )
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

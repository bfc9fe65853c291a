"""What stands for the same thing on several tabs looks the same."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from app import ui
from tests.support.engine import fake_session


def test_every_stop_looks_like_one(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models")
    parts = ui.build(session).blocks.values()
    stops = [part for part in parts if isinstance(part, gr.Button) and part.value == "Stop"]
    assert {part.variant for part in stops} == {"stop"}
    assert len(stops) == 8
    session.close()

"""The bundled clip of the first screen is whole, and the page does without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from app.clips.sample import sample
from app.generate.welcome import Welcome
from tests.support.engine import fake_session

ASSETS = Path(__file__).parents[3] / "assets"


def test_the_bundled_clip_is_whole(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models", assets=ASSETS)
    found = sample(session)
    assert found is not None
    making = found.making
    assert making.tokens_thw.shape == (5, 16, 16)
    assert set(making.step_thw.flatten()) == set(range(95)) == set(range(len(making.step_s)))
    assert len(making.frame_s) == 17
    assert making.tokens_thw.max() < making.codebook_size
    with Image.open(found.strip) as strip:
        assert strip.size == (17 * making.side, making.side)
    assert found.block_shape == (1, 1, 16)
    assert found.words == "drawer close, by model small, seed 42"


def test_without_bundled_files_the_page_begins_empty(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models")
    assert sample(session) is None
    empty, _ = fake_session(tmp_path / "others", assets=tmp_path)
    assert sample(empty) is None


def test_recipes_take_the_bundled_picture(tmp_path: Path) -> None:
    import gradio as gr

    session, _ = fake_session(tmp_path / "models", assets=ASSETS)
    with gr.Blocks():
        welcome = Welcome(session, None)
    kept: list[str] = []

    def keep(path: str) -> str:
        kept.append(path)
        return "copy.jpg"

    values = welcome.cat_values(keep)
    assert (values["start"], values["action"], values["picture"]) == (
        "frame", "pan-left", "copy.jpg",
    )  # fmt: skip
    assert kept == [str(ASSETS / "chelsea.jpg")]


@pytest.mark.parametrize("name", ["clip-tokens.npz", "clip-frames.png"])
def test_half_a_bundled_clip_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / name).write_bytes(b"")
    session, _ = fake_session(tmp_path / "models", assets=tmp_path)
    assert sample(session) is None

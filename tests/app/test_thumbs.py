"""The small pictures of a page are fetched when they are shown, and nothing else is served so."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image

from app import ui
from app.clips.request import read_start
from app.parts import uploads
from app.parts.thumbs import thumb
from nbp_core.media.pictures import read_image
from nbp_core.media.video import write_video
from tests.support.engine import fake_session


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    folder = tmp_path / "assets"
    folder.mkdir()
    Image.new("RGB", (64, 64), "teal").save(folder / "a lake.jpg")
    write_video(folder / "clip.mp4", np.full((9, 128, 128, 3), 200, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    (tmp_path / "secret.jpg").write_bytes((folder / "a lake.jpg").read_bytes())
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return folder


def studio(assets: Path, auth: tuple[str, str] | None) -> Iterator[str]:
    session, _ = fake_session(assets.parent / "models", assets=assets)
    blocks = ui.build(session)
    yield ui.launch(blocks, "127.0.0.1", None, auth, prevent_thread_lock=True, quiet=True)
    blocks.close()
    session.close()


@pytest.fixture
def url(assets: Path) -> Iterator[str]:
    yield from studio(assets, None)


@pytest.fixture
def locked_url(assets: Path) -> Iterator[str]:
    yield from studio(assets, ("user", "secret"))


@pytest.mark.parametrize(("name", "colour"), [("a lake.jpg", (0, 128, 128)), ("clip.mp4", 200)])
def test_a_page_can_fetch_its_small_pictures(
    url: str, assets: Path, name: str, colour: tuple[int, int, int] | int
) -> None:
    item = thumb(assets, assets / name, "a name")
    answer = httpx.get(f"{url}thumbs/{item['picture']}")
    assert answer.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (96, 96)
    assert np.abs(np.asarray(picture).astype(int) - colour).max() <= 4


def test_an_open_page_has_its_examples_from_the_next_start_too(
    assets: Path, request: pytest.FixtureRequest
) -> None:
    """The page names no file that only the studio it was opened on has."""
    (assets / "link.jpg").unlink()
    session, _ = fake_session(assets.parent / "models", assets=assets)
    blocks = ui.build(session)
    config = json.dumps(blocks.get_config_file(), default=str)
    blocks.close()
    session.close()
    assert str(session.uploads) not in config
    pictures = re.findall(r'"picture": "([^"]+)", "caption"', config)
    assert pictures.count("clip.mp4") == 3, "Generate, Compare and Tokenizer offer it"
    url = request.getfixturevalue("url")
    assert {httpx.get(f"{url}thumbs/{name}").status_code for name in pictures} == {200}


def test_a_bundled_clip_is_taken_as_if_uploaded(assets: Path) -> None:
    session, _ = fake_session(assets.parent / "models", assets=assets)
    with gr.Blocks() as blocks:
        upload = uploads.clip_upload("Clip", "clip")
        uploads.offer_examples(session, "clip", upload, "Clips to try")
    [choice] = (event for event in blocks.fns.values() if event.outputs == [upload])
    take: Any = choice.fn
    taken = take(gr.EventData(None, {"index": 0}))
    assert Path(taken).is_relative_to(session.uploads)
    assert read_start("clip", None, taken) is not None
    with pytest.raises(gr.Error, match="was not found"):
        take(gr.EventData(None, {"index": 1000}))
    session.close()


def test_a_picture_that_browsers_do_not_show_becomes_a_png_of_the_same_pixels(
    tmp_path: Path,
) -> None:
    session, _ = fake_session(tmp_path / "models")
    with gr.Blocks() as blocks:
        uploads.picture_upload(session, "Picture", "picture", "Yours")
    [shown] = blocks.fns.values()
    take: Any = shown.fn
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1500, 3), np.uint8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(noise).save(tmp_path / name)
    assert take(str(tmp_path / "a.png")) == gr.skip()
    taken = Path(take(str(tmp_path / "a.tif")))
    assert taken.name == "a.png"
    assert taken.is_relative_to(session.uploads)
    assert np.array_equal(read_image(taken), read_image(tmp_path / "a.tif"))
    session.close()


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "%2e%2e/secret.jpg", "..%2Fsecret.jpg", "link.jpg", "notes.txt", "none.jpg",
     "", "/etc/hostname", "%00", "x" * 300],
)  # fmt: skip
def test_nothing_else_is_served(url: str, name: str) -> None:
    assert httpx.get(f"{url}thumbs/{name}").status_code == 404


def test_small_pictures_are_only_for_visitors_with_the_password(locked_url: str) -> None:
    assert httpx.get(f"{locked_url}thumbs/clip.mp4").status_code == 401
    with httpx.Client() as visitor:
        visitor.post(f"{locked_url}login", data={"username": "user", "password": "secret"})
        assert visitor.get(f"{locked_url}thumbs/clip.mp4").status_code == 200

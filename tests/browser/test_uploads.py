"""Files that browsers do not know, dropped or chosen by a visitor."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio
from tests.browser.visitor import open_studio
from tests.support.charts import chart, encode, numbered
from tests.support.heic import write_heic

_DROP = """(target, [name, data]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name));
  const event = new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
  target.dispatchEvent(event);
}"""


def drop(page: Page, elem_id: str, path: Path) -> None:
    """Drops a file of no known type onto an upload."""
    data = base64.b64encode(path.read_bytes()).decode()
    page.locator(f"#{elem_id} [aria-dropeffect]").evaluate(_DROP, [path.name, data])


def test_a_phones_picture_is_taken_however_it_comes(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    path = tmp_path / "IMG_1234.HEIC"
    write_heic(path, chart(), tile=64)
    for by_drop in (True, False):
        open_studio(page, studio.url)
        page.get_by_label("a first frame").check()
        if by_drop:
            drop(page, "picture", path)
        else:
            page.locator("#picture input[type=file]").set_input_files(path)
        expect(page.locator("#picture img")).to_have_js_property("naturalWidth", 160)
        expect(page.locator("#picture .crop-square")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("IMG_1234.MOV", "-c:v libx265 -tag:v hvc1 -pix_fmt yuv420p10le"),
        ("tape.mxf", "-c:v mpeg2video -r 25"),
        ("old.avi", "-c:v mpeg4"),
        ("moving.gif", ""),
    ],
)
def test_a_clip_that_browsers_do_not_play_is_shown_by_its_first_frame(
    page: Page, studio: Studio, tmp_path: Path, name: str, codec: str
) -> None:
    encode(tmp_path / name, numbered(12), codec)
    open_studio(page, studio.url)
    page.get_by_label("five frames").check()
    drop(page, "clip", tmp_path / name)
    note = page.locator("#clip-first")
    expect(note.get_by_text("This browser cannot play the clip, but the studio")).to_be_visible()
    expect(page.locator("#clip .crop-square")).to_be_visible()
    expect(page.locator("#clip video")).to_have_js_property(
        "poster", note.locator("img").evaluate("image => image.src")
    )
    expect(page.get_by_test_id("toast-body")).to_have_count(0)
    page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.click()
    expect(note).to_be_hidden()


def test_what_is_no_picture_is_refused_by_its_content(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    Image.fromarray(chart()).save(tmp_path / "picture.txt", "PNG")
    open_studio(page, studio.url)
    page.get_by_label("a first frame").check()
    drop(page, "picture", tmp_path / "notes.txt")
    expect(page.get_by_text("notes.txt is not a picture that can be read")).to_be_visible()
    expect(page.locator("#picture img")).to_have_count(0)
    drop(page, "picture", tmp_path / "picture.txt")
    expect(page.locator("#picture .crop-square")).to_be_visible()

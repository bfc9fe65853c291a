"""The Attention tab as a visitor sees it, on a small model with real attention."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from app.attention.opened import Views
from tests.browser.conftest import serve_small_models
from tests.browser.visitor import SLOW_ANSWERS, expect_to_fit, open_studio, wait_for_quiet

pytestmark = pytest.mark.timeout(300)  # models, a studio and a browser, perhaps on a busy machine
ROWS_LENGTH = 1 + 1 + 16 + 15 + 30 * 16
"""Positions of two latent frames in rows: the last one is made, never fed."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from serve_small_models(tmp_path_factory.mktemp("attention"))


def open_attention(page: Page, url: str) -> None:
    open_studio(page, url, "Attention")
    expect(maps(page)).to_have_count(1)
    expect(page.locator("#attention-measured")).to_contain_text("Measured here")
    page.get_by_label("Full size (1 pixel per weight)").check()


def maps(page: Page) -> Any:
    return page.locator("#attention-map canvas.map")


def pixel(page: Page, row: int, column: int, pane: int = 0) -> list[int]:
    script = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data]"
    found: list[int] = maps(page).nth(pane).evaluate(script, [column, row])
    return found


def test_a_map_is_drawn_pixel_by_pixel_and_read(page: Page, url: str) -> None:
    open_attention(page, url)
    assert maps(page).evaluate("c => [c.width, c.clientWidth]") == [ROWS_LENGTH] * 2
    page.get_by_label("Block outlines").uncheck()
    # A row of blocks sees its own block to the end, and nothing after it.
    assert pixel(page, 33, 48)[3] == 255
    assert pixel(page, 33, 49)[3] < 255
    maps(page).hover(position={"x": 20.5, "y": 5.5})
    readout = page.locator("#attention-map .readout")
    expect(readout).to_contain_text("Weight masked: query 6, token (1, 1, 4)")
    maps(page).hover(position={"x": 1.5, "y": 5.5})
    expect(readout).to_contain_text("about 0.")
    expect(readout).to_contain_text("key 2, BOV")


def test_switches_change_the_picture_only(page: Page, url: str) -> None:
    open_attention(page, url)
    before = pixel(page, 300, 0)
    page.get_by_label("Dim attention to the condition").uncheck()
    assert sum(pixel(page, 300, 0)[:3]) > sum(before[:3])
    page.get_by_label("log scale").uncheck()
    expect(page.locator("#attention-map figcaption")).to_contain_text("brightest from")
    page.get_by_label("Full size (1 pixel per weight)").uncheck()
    assert maps(page).evaluate("c => c.clientWidth") != ROWS_LENGTH


def test_a_map_that_fits_is_whole_and_keeps_its_lines(page: Page, url: str) -> None:
    """The lines lie on the screen's pixels, not in the shrunk map; the crosshair leaves with the
    pointer."""
    open_studio(page, url, "Attention")
    expect(maps(page)).to_have_count(1)
    scroll = page.locator("#attention-map .scroll")
    assert scroll.evaluate("box => box.scrollHeight <= box.clientHeight + 1")
    lines = page.locator("#attention-map canvas.lines")
    assert lines.evaluate("c => c.width === Math.round(c.clientWidth * devicePixelRatio)")
    inked = """c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v)"""
    assert lines.evaluate(inked)
    page.get_by_label("Block outlines").uncheck()
    assert not lines.evaluate(inked)
    cross = page.locator("#attention-map .cross")
    maps(page).hover(position={"x": 20.5, "y": 50.5})
    expect(cross).to_be_visible()
    page.locator("#attention-map .readout").hover()
    expect(cross).to_be_hidden()


def test_a_small_map_chooses_its_head(page: Page, url: str) -> None:
    open_attention(page, url)
    page.get_by_role("button", name="Layer 2, head 1").click()
    expect(page.locator("#attention-measured")).to_contain_text("layer 2, head 1,")
    expect(page.locator("#attention-heads [aria-pressed=true]")).to_have_count(1)
    expect(page.get_by_label("Heads", exact=True)).to_have_value("head 1")


def test_a_head_that_is_chosen_while_a_clip_opens_is_shown_with_it(
    page: Page, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, open_clip = threading.Event(), Views.open

    def wait(*arguments: Any) -> Any:
        assert go_on.wait(60)
        return open_clip(*arguments)

    open_attention(page, url)
    monkeypatch.setattr(Views, "open", wait)
    measured = page.locator("#attention-measured")
    menus = (("Clip", "drawer-close"), ("Layer", "layer 2 of"), ("Heads", "head 1"))
    for menu, option in menus:
        page.get_by_role("combobox", name=menu, exact=True).filter(visible=True).click()
        page.get_by_role("option", name=option).click()
        expect(measured).to_contain_text("Opening the clip...")
    page.wait_for_timeout(1000)  # until the studio knows of it
    go_on.set()
    expect(measured).to_contain_text("layer 2, head 1,")
    expect(measured).to_contain_text("drawer-close, bundled clip")
    expect(page.get_by_label("Heads", exact=True)).to_have_value("head 1")
    expect(page.get_by_label("Layer", exact=True)).to_have_value("layer 2 of 2")


def test_the_square_of_an_upload_is_shown_and_moved(page: Page, url: str, tmp_path: Path) -> None:
    from nbp_core.media.video import write_video

    frames = np.random.default_rng(0).integers(0, 255, (5, 64, 128, 3), np.uint8)
    write_video(tmp_path / "wide.mp4", frames)
    open_attention(page, url)
    expect(page.locator("#attention-crop")).to_be_hidden()
    page.locator("#attention-clip input").click()
    page.get_by_role("option", name="a clip of your own").click()
    page.locator("#attention-upload input[type=file]").set_input_files(tmp_path / "wide.mp4")
    expect(page.locator("#attention-measured")).to_contain_text("your clip")
    expect(page.locator("#attention-upload .crop-square")).to_be_visible()
    expect(page.locator("#attention-look canvas")).to_have_count(2)
    shown = "document.querySelector('#attention-look canvas').toDataURL()"
    before = page.evaluate(shown)
    page.locator("#attention-crop input[type=range]").press("End")
    page.wait_for_function(f"before => {shown} !== before", arg=before)


def test_many_layers_scroll_in_their_place(page: Page, url: str) -> None:
    open_attention(page, url)
    page.locator("#attention-heads .heads").evaluate(
        """grid => { const row = [...grid.children];
        for (let i = 0; i < 40; i++) grid.append(...row.map(part => part.cloneNode(true))); }"""
    )
    box = page.locator("#attention-heads .html-container")
    shown, whole = box.evaluate("box => [box.clientHeight, box.scrollHeight]")
    assert 0 < shown <= 720 < whole


def test_a_click_shows_where_a_query_looks(page: Page, url: str) -> None:
    open_attention(page, url)
    text = page.locator("#attention-look .text")
    frames = page.locator("#attention-look canvas")
    expect(frames).to_have_count(2)
    frames.nth(1).focus()
    frames.nth(1).press("ArrowRight")
    expect(text).to_contain_text("predicts the token at latent frame 2, row 9, column 10")
    frames.nth(0).click(position={"x": 3, "y": 3})
    expect(text).to_contain_text("predicts the token at latent frame 1, row 1, column 1")
    maps(page).click(position={"x": 10.5, "y": ROWS_LENGTH - 0.5})
    expect(text).to_contain_text("predicts the token at latent frame 2, row 16, column 16")
    maps(page).press("ArrowUp")
    maps(page).press("Enter")
    expect(text).to_contain_text("predicts the token at latent frame 2, row 16, column 15")


def test_of_clicks_in_quick_succession_the_last_is_answered(page: Page, url: str) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_attention(page, url)
    for name in ("Layer 1, head 2", "Layer 2, head 1"):
        page.get_by_role("button", name=name).click()
    frames = page.locator("#attention-look canvas")
    expect(frames).to_have_count(2)
    for index in (0, 1):
        frames.nth(index).click(position={"x": 3, "y": 3})
    wait_for_quiet(page)
    expect(page.locator("#attention-measured")).to_contain_text("layer 2, head 1,")
    text = page.locator("#attention-look .text")
    expect(text).to_contain_text("predicts the token at latent frame 2, row 1, column 1")


def test_arrow_keys_in_quick_succession_all_count(page: Page, url: str) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_attention(page, url)
    frames = page.locator("#attention-look canvas")
    expect(frames).to_have_count(2)
    frames.nth(1).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    text = page.locator("#attention-look .text")
    expect(text).to_contain_text("predicts the token at latent frame 2, row 8, column 11")


def test_the_triangle_stands_beside_the_staircase(page: Page, url: str) -> None:
    open_attention(page, url)
    page.get_by_label("Show next-token attention alongside").check()
    expect(maps(page)).to_have_count(2)
    expect(page.locator("#attention-map figcaption").nth(1)).to_have_text("token 1x1x1")
    page.get_by_label("Block outlines").uncheck()
    # The same row: a block sees to its end, a token sees no further than itself.
    assert [pixel(page, 33, 40, pane)[3] == 255 for pane in (0, 1)] == [True, False]
    expect(page.locator("#attention-look .line")).to_have_count(2)
    expect_to_fit(page)


def test_the_map_can_be_taken_along(page: Page, url: str) -> None:
    open_attention(page, url)
    page.locator("#attention-export").click()
    for kind in ("png", "svg", "pdf", "npz"):
        with page.expect_download() as download:
            page.locator(f"#attention-{kind}").click()
        assert download.value.suggested_filename == f"attention_1x1x16_layer1_head-mean.{kind}"


def test_pictures_that_come_late_are_not_those_of_another_clip(page: Page, url: str) -> None:
    page.add_init_script(
        "const decode = Image.prototype.decode; window.late = [];"
        "Image.prototype.decode = function () { return window.isLate && this.src.length > 100"
        " ? new Promise((done) => window.late.push(() => done(decode.call(this))))"
        " : decode.call(this); };"
    )
    open_attention(page, url)
    look = "document.querySelector('#attention-look canvas').toDataURL()"
    clip = page.locator("#attention-clip input")
    head = page.get_by_role("button", name="Layer 2, head 1")
    measured = page.locator("#attention-measured")
    head.click()
    expect(measured).to_contain_text("layer 2, head 1,")
    first = page.evaluate(look)
    page.evaluate("window.isLate = true")
    for name in ("drawer-close", "door-open"):
        clip.click()
        page.get_by_role("option", name=name).click()
        expect(measured).to_contain_text(f"{name}, bundled clip")
        page.wait_for_function("window.late.length > 0")
        page.evaluate("window.isLate = false")
    expect(page.locator("#attention-look canvas")).to_have_count(2)
    page.evaluate("window.late.forEach((go) => go())")
    head.click()
    expect(measured).to_contain_text("layer 2, head 1,")
    assert page.evaluate(look) == first


def test_words_on_canvases_follow_the_systems_theme(page: Page, url: str) -> None:
    page.emulate_media(color_scheme="light")
    open_attention(page, url)
    brightness = """c => {
      const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
      return Math.max(...data.filter((_, i) => i % 4 === 0 && data[i + 3] === 255)); }"""
    axis = page.locator("#attention-map canvas.left")
    assert axis.evaluate(brightness) < 128
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_class("dark")
    page.wait_for_function(
        f"({brightness})(document.querySelector('#attention-map canvas.left')) > 128"
    )

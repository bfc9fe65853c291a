"""Tokenizer as a visitor sees it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from nbp_core.media.video import write_video
from tests.browser.conftest import Studio
from tests.browser.visitor import generate, open_studio, open_tab
from tests.support.charts import chart
from tests.support.heic import write_heic


def open_tokenizer(page: Page, url: str) -> None:
    open_studio(page, url, "Tokenizer")
    expect(page.locator("#tokenizer-status")).to_contain_text("press Tokenize")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write_video(tmp_path / "noise.mp4", rng.integers(0, 256, (20, 64, 96, 3), np.uint8))
    return tmp_path / "noise.mp4"


def test_a_clip_goes_to_tokens_and_back(page: Page, studio: Studio, clip: Path) -> None:
    open_tokenizer(page, studio.url)
    page.locator("#tokenizer-clip input[type=file]").set_input_files(clip)
    expect(page.locator("#tokenizer-clip video")).to_be_visible()
    page.get_by_role("button", name="Tokenize").click()
    expect(page.locator("#tokenizer-status")).to_contain_text("Done.")
    figures = page.locator("#trip-figures")
    expect(figures).to_contain_text("256 of 4,096")
    expect(figures).to_contain_text("more than 17 frames. Its first 17 are used")
    expect(figures).to_contain_text("the middle square of noise.mp4")
    expect(page.locator("#trip-pair img")).to_have_count(2)
    wide = "img => img.complete && img.naturalWidth === 512"
    assert all(page.locator("#trip-pair img").nth(i).evaluate(wide) for i in range(2))
    boxes = (page.locator(f"#trip-pair {part}").bounding_box() for part in ("input", ".before"))
    line, picture = (box["height"] for box in boxes if box)
    assert abs(line - picture) < 1, "the line ends above the words"
    edge = page.get_by_role("slider", name="Edge between original and reconstruction")
    edge.focus()
    page.keyboard.press("ArrowRight")
    expect(edge).to_have_value("51")
    after = page.locator("#trip-pair .after")
    assert after.evaluate("i => getComputedStyle(i).clipPath") == "inset(0px 0px 0px 51%)"
    assert after.evaluate("i => getComputedStyle(i).outlineStyle") == "solid"
    box = edge.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 30)
    expect(edge).to_have_value(re.compile("^2[3-7]$"))
    first = page.locator("#trip-pair img").first.get_attribute("src")
    page.locator("#tokenizer-frame input[type=range]").fill("17")
    expect(page.locator("#trip-pair img").first).not_to_have_attribute("src", first or "")
    page.get_by_role("tab", name="Clips", exact=True).click()
    for name in ("#original-clip", "#back-clip"):
        page.wait_for_function(f"document.querySelector('{name} video')?.readyState >= 2")
        assert page.locator(f"{name} video").evaluate("v => [v.loop, v.videoWidth]") == [True, 512]
    page.get_by_role("tab", name="Tokens").click()
    expect(page.get_by_alt_text("Token map of latent frame 5")).to_be_visible()
    page.get_by_role("tab", name="By frame").click()
    expect(page.locator("#quality-curve .scatterlayer .trace")).to_have_count(2)
    page.wait_for_function(
        """() => { const place = document.querySelector('#quality-curve .js-plotly-plot');
        return place.querySelector('svg').clientWidth > .95 * place.parentElement.clientWidth; }"""
    )
    with page.expect_download() as download:
        page.locator("#trip-get-figures").click()
    assert download.value.suggested_filename == "noise-figures.json"


def test_a_picture_needs_no_clip(page: Page, studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (90, 70), "teal").save(tmp_path / "teal.png")
    page.set_viewport_size({"width": 390, "height": 844})
    open_tokenizer(page, studio.url)
    page.get_by_role("radio", name="a picture").check()
    page.locator("#tokenizer-picture input[type=file]").set_input_files(tmp_path / "teal.png")
    expect(page.locator("#tokenizer-picture .crop-square")).to_be_visible()
    page.locator("#tokenizer-crop input[type=range]").press("Home")
    page.get_by_role("button", name="Tokenize").click()
    expect(page.locator("#tokenizer-status")).to_contain_text("Done.")
    expect(page.locator("#trip-figures")).to_contain_text("One picture")
    expect(page.locator("#trip-figures")).to_contain_text("the square at crop 0.00 of teal.png")
    page.get_by_role("tab", name="Clips", exact=True).click()
    expect(page.locator("#round-trip")).to_contain_text("Choose a clip as input to see it here.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("kind", ["heic", "tif", "ppm"])
def test_a_picture_of_a_format_that_browsers_do_not_show_is_shown(
    page: Page, studio: Studio, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"my photo.{kind}"
    if kind == "heic":
        write_heic(path, chart(), tile=64)
    else:
        Image.fromarray(chart()).save(path)
    open_tokenizer(page, studio.url)
    page.get_by_role("radio", name="a picture").check()
    page.locator("#tokenizer-picture input[type=file]").set_input_files(path)
    expect(page.locator("#tokenizer-picture img")).to_have_js_property("naturalWidth", 160)
    expect(page.locator("#tokenizer-picture .crop-square")).to_be_visible()
    page.get_by_role("button", name="Tokenize").click()
    expect(page.locator("#trip-figures")).to_contain_text("my-photo.png")


def test_a_generated_clip_can_be_sent_through(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    generate(page)
    open_tab(page, "Tokenizer")
    page.get_by_label("a clip made here").check()
    shown = "drawer close, row 1x1x16, seed 42, fake, the clip on Generate"
    expect(page.locator("#tokenizer-made input")).to_have_value(shown)
    page.get_by_role("button", name="Tokenize").click()
    expect(page.locator("#tokenizer-status")).to_contain_text("Done.")
    expect(page.locator("#trip-figures")).to_contain_text("All 17 frames are used")


def test_the_keyboards_focus_comes_back_to_tokenize(page: Page, studio: Studio, clip: Path) -> None:
    open_tokenizer(page, studio.url)
    page.locator("#tokenizer-clip input[type=file]").set_input_files(clip)
    expect(page.locator("#tokenizer-clip video")).to_be_visible()
    page.locator("#tokenize").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tokenizer-status")).to_contain_text("Done.")
    expect(page.locator("#tokenize")).to_be_focused()


def test_a_missing_file_is_refused_in_one_sentence(page: Page, studio: Studio) -> None:
    open_tokenizer(page, studio.url)
    page.get_by_role("button", name="Tokenize").click()
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("Choose a clip, or one of the examples.")

"""Generate as a visitor sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio, serve
from tests.browser.visitor import expect_clip, generate, open_studio

TINY = Path(__file__).parents[2] / "weights" / "tiny"


def test_an_action_becomes_a_clip_and_a_chart(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    expect(page.get_by_label("row 1x1x16: 80 steps, 16x fewer")).to_be_checked()
    page.locator("#seed input").fill("")
    page.locator("#go").focus()
    page.keyboard.press("Enter")
    expect_clip(page)
    assert page.locator("#seed input").input_value().isdigit(), "the seed that was drawn is shown"
    expect(page.locator("#counters")).to_contain_text("80/80")
    expect(page.locator("#preview img.frame")).to_have_attribute("alt", "Frame 17 of 17")
    page.get_by_role("tab", name="Timing").click()
    expect(page.locator("#timing .bars path").first).to_be_visible()
    expect(page.locator("#timing")).to_contain_text("median")
    page.get_by_role("tab", name="Frames").click()
    expect(page.get_by_alt_text("The 17 frames of the clip side by side")).to_be_visible()
    expect(page.locator("#measured")).to_contain_text("weights fake")
    with page.expect_download() as download:
        page.locator("#get-gif").click()
    assert download.value.suggested_filename.endswith(".gif")


def test_stop_keeps_what_there_is(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.1
    open_studio(page, studio.url)
    page.locator("#go").click()
    expect(page.locator("#preview .frame-text")).to_contain_text("Frame 1 of 17")
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("Stopped:")
    expect(page.locator("#video video")).to_be_visible()
    expect(page.locator("#go")).to_be_enabled()


def test_a_reload_finds_the_run_again(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.1
    open_studio(page, studio.url)
    page.locator("#go").click()
    expect(page.locator("#preview .frame-text")).to_contain_text("Frame 1 of 17")
    page.reload()
    expect(page.locator("#status")).to_contain_text("Running")
    studio.pipeline.step_s = 0
    expect_clip(page)


def test_a_crash_is_one_sentence_and_the_next_run_works(page: Page, studio: Studio) -> None:
    studio.pipeline.fault_at = 5
    open_studio(page, studio.url)
    page.locator("#go").click()
    expect(page.locator("#status")).to_contain_text("broke off because of a fault")
    assert "/secret" not in page.content()
    studio.pipeline.fault_at = None
    generate(page)


def test_a_corrupt_picture_is_refused_at_once(page: Page, studio: Studio, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    open_studio(page, studio.url)
    page.get_by_label("a first frame").check()
    page.locator("#picture input[type=file]").set_input_files(torn)
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("torn.png is not a picture that can be read")
    assert str(tmp_path) not in page.content()
    expect(page.locator("#picture")).to_contain_text("Drop Image Here")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(page: Page, studio: Studio, theme: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_studio(page, f"{studio.url}?__theme={theme}")
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    expect(page.locator("#go")).to_be_in_viewport()
    generate(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def tiny_url() -> Iterator[str]:
    from app.session import Session

    yield from serve(Session(TINY.parent, "cpu"))


@pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not there")
def test_the_bundled_weights_make_a_clip(page: Page, tiny_url: str) -> None:
    open_studio(page, tiny_url)
    generate(page)
    expect(page.locator("#counters")).to_contain_text("95/95")

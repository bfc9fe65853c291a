"""What a visitor can do wrong, or at a bad moment, and what the page says to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Studio, why_no_browser
from tests.browser.visitor import expect_clip, generate, open_studio
from tests.support.odd_uploads import cases


def test_a_bad_picture_is_one_note_without_a_path_and_is_taken_away(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    open_studio(page, studio.url)
    page.get_by_label("a first frame").check()
    for name in ("png-cut-0.3", "png-says-20000x20000", "svg-as-png", "mp4-noise"):
        path = tmp_path / f"{name}.png"
        path.write_bytes(cases()[name].data())
        expect(page.locator("#picture")).to_contain_text("Drop Image Here")
        page.locator("#picture input[type=file]").set_input_files(path)
        toast = page.get_by_test_id("toast-body").filter(has_text=f"{name}.png")
        expect(toast).to_have_count(1)
        sentence = toast.inner_text().strip().splitlines()[-1]
        assert re.fullmatch(r"[^/]*\.png [^/]*\.", sentence)
        assert str(tmp_path) not in page.content()
    expect(page.locator("#picture")).to_contain_text("Drop Image Here")


def test_a_run_is_paused_stepped_and_resumed(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    open_studio(page, studio.url)
    page.locator("#go").click()
    expect(page.locator("#pause")).to_be_enabled()
    expect(page.locator("#step")).to_be_disabled()
    page.locator("#pause").click()
    status = page.locator("#status")
    expect(status).to_contain_text("Paused at step")
    expect(page.locator("#pause")).to_have_text("Resume")
    # The step under way when Pause was pressed is still counted.
    page.wait_for_timeout(1000)
    done = int(re.findall(r"step (\d+)", status.inner_text())[0])
    page.locator("#step").click()
    expect(status).to_contain_text(f"Paused at step {done + 1} of 80")
    studio.pipeline.step_s = 0
    page.locator("#pause").click()
    expect_clip(page)
    expect(page.locator("#pause")).to_be_disabled()


def test_a_settings_file_dropped_back_fills_the_page(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    open_studio(page, studio.url)
    generate(page)
    with page.expect_download() as download:
        page.locator("#get-settings").click()
    settings = json.loads(download.value.path().read_text())
    settings["sampling"]["seed"] = 4321
    settings["block_shape"] = "1x16x16"
    settings["num_frames"] = 33
    dropped = tmp_path / "settings.json"
    dropped.write_text(json.dumps(settings))
    page.get_by_role("button", name="Restore settings from a file").click()
    page.locator("#restore input[type=file]").set_input_files(dropped)
    expect(page.locator("#restored")).to_contain_text("All settings are restored.")
    expect(page.locator("#seed input")).to_have_value("4321")
    expect(page.locator("#length").get_by_label("33 frames")).to_be_checked()
    expect(page.locator("#block").get_by_label("frame 1x16x16")).to_be_checked()
    dropped.write_text("{}")
    page.locator("#restore input[type=file]").set_input_files(dropped)
    expect(page.get_by_test_id("toast-body")).to_contain_text("has no settings of this studio")


def test_a_past_clip_is_opened_and_gone_on_from(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    generate(page)
    page.locator("#seed input").fill("77")
    page.locator("#go").click()
    expect(page.locator("#gallery .card").first).to_contain_text("seed 77")
    expect(page.locator("#disk")).to_contain_text("of 1,000 MB used")
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#manifest")).to_contain_text('"seed": 77')
    page.locator("#gallery .open").nth(1).click()
    expect(page.locator("#manifest")).to_contain_text('"seed": 42')
    page.locator("#again-five").click()
    expect(page.get_by_label("five frames")).to_be_checked()
    expect_clip(page)
    expect(page.locator("#counters")).to_contain_text("48/48")
    expect(page.locator("#clip video")).to_be_visible()


def test_the_gallery_is_worked_by_keyboard(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    for seed in ("31", "32"):
        page.locator("#seed input").fill(seed)
        page.locator("#go").click()
        expect(page.locator("#gallery .card").first).to_contain_text(f"seed {seed}")
    page.locator("#gallery .use").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#seed input")).to_have_value("31")
    # A new clip draws the cards anew; the focus stays with its card.
    studio.pipeline.step_s = 0.03
    page.locator("#seed input").fill("33")
    page.locator("#go").click()
    page.locator("#gallery .pin").nth(1).focus()
    expect(page.locator("#gallery .card").first).to_contain_text("seed 33")
    expect(page.locator("#gallery .pin").nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    pinned = page.locator("#gallery .card").first
    expect(pinned).to_contain_text("seed 31")
    expect(pinned.get_by_role("button", name="Unpin")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(pinned.get_by_text("Really?")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#gallery")).not_to_contain_text("seed 31")
    expect(page.locator("#gallery .open").first).to_be_focused()


def test_no_control_is_covered_by_the_buttons(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    row = page.locator("#run").bounding_box()
    assert row is not None
    for name in ("#start", "#action", "#block", "#presets", "#length", "#seed"):
        box = page.locator(name).bounding_box()
        assert box is not None
        assert box["y"] >= row["y"] + row["height"], name
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_function(
        """() => { scrollTo(0, document.body.scrollHeight);
        const [end, row] = ['footer .settings', '#run'].map(
          (part) => document.querySelector(part).getBoundingClientRect());
        return end.bottom <= row.top && row.bottom <= innerHeight; }"""
    )
    page.locator("#length").get_by_label("33 frames").check()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_browser_that_cannot_start_is_a_reason_to_skip(tmp_path: Path) -> None:
    assert "no browser at" in (why_no_browser(tmp_path / "chromium") or "")
    broken = tmp_path / "broken"
    broken.write_text(
        "#!/bin/sh\necho 'error while loading shared libraries: libx.so' >&2; exit 127"
    )
    broken.chmod(0o755)
    assert "does not start: " in (why_no_browser(broken) or "")


def test_a_full_queue_is_a_sentence(
    browser: Browser, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with browser.new_context() as context:
        page = context.new_page()  # an unwatched one: the browser reports what is refused
        open_studio(page, studio.url)
        monkeypatch.setattr("app.parts.api.MAX_CALLS", 0)
        page.get_by_role("button", name="Generate", exact=True).click()
        toast = page.get_by_test_id("toast-body")
        expect(toast).to_contain_text("Too many jobs wait. Try again when one has ended.")
        expect(toast).to_have_count(1)
        monkeypatch.undo()
        generate(page)

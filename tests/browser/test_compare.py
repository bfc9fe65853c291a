"""Compare as a visitor sees it: a race, its replay against one clock, its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Studio, serve, watched
from tests.browser.visitor import expect_to_fit, open_studio, open_tab
from tests.support.engine import FakePipeline, session_of

PAINTED = """canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 3; i < data.length; i += 4) count += data[i] === 255;
  return count;
}"""


@pytest.fixture(scope="module")
def raced(browser: Browser, fake_studio: Studio) -> Iterator[Page]:
    """A page on which a race has been run, once for all tests that look at it."""
    fake_studio.pipeline.step_s = 0.001
    with browser.new_context() as context, watched(context.new_page()) as page:
        open_studio(page, fake_studio.url, "Compare")
        page.locator("#race-go").click()
        expect(page.locator("#race-status")).to_contain_text(
            "Finished. Press Replay to watch the race again."
        )
        yield page


def seek(page: Page, thousandth: int) -> None:
    page.locator("#race-replay .seek").evaluate(
        "(range, at) => { range.value = at; range.dispatchEvent(new Event('input')); }", thousandth
    )


def painted(canvases: Locator) -> list[Any]:
    return [canvases.nth(i).evaluate(PAINTED) for i in range(2)]


def test_a_race_is_replayed_against_one_clock(raced: Page) -> None:
    page = raced
    expect(page.locator("#race-replay .name").first).to_have_text("token 1x1x1, next token")
    expect(page.locator("#race-headline")).to_contain_text("median of 3 races")
    expect(page.locator("#race-measured")).to_contain_text("with weights fake (ffffffff)")
    said = "new frames (drawer close, seed 42, temperature"
    expect(page.locator("#race-measured")).to_contain_text(said)
    replay = page.locator("#race-replay")
    expect(replay.locator(".state").nth(1)).to_contain_text("done in")
    seek(page, 0)
    cells, frames = replay.locator("canvas.cells"), replay.locator("canvas.frame")
    assert painted(cells) == [0, 0]
    assert painted(frames) == [0, 0]
    expect(replay.locator(".state").first).to_have_text("step 0 of 1,280, 0 of 17 frames")
    seek(page, 500)
    by_token, by_row = painted(cells)
    assert 0 < by_token < by_row, "the row is ahead"
    seek(page, 1000)
    assert painted(cells) == [1280, 1280]
    assert painted(frames) == [128 * 128] * 2
    expect(replay.locator(".state").first).to_contain_text("done in")
    expect(replay.get_by_role("img", name="17 of 17 frames")).to_have_count(2)


def test_the_clock_starts_stops_and_keeps_its_speed(raced: Page) -> None:
    page, replay = raced, raced.locator("#race-replay")
    expect(replay.locator(".state").nth(1)).to_contain_text("done in")
    expect(replay.locator(".clock")).to_have_attribute("aria-live", "off")
    replay.locator(".speed").select_option("0.25")
    replay.get_by_role("button", name="Replay").click()
    page.wait_for_function("parseFloat(document.querySelector('#race-replay .clock').value) > 0.1")
    replay.get_by_role("button", name="Pause").click()
    stood = replay.locator(".clock").text_content()
    page.wait_for_timeout(300)
    assert replay.locator(".clock").text_content() == stood
    replay.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function(
        "was => document.querySelector('#race-replay .clock').value !== was", arg=stood
    )


def test_figures_and_charts(raced: Page) -> None:
    page = raced
    expect(page.locator("#race-figures")).to_contain_text("forward steps")
    expect(page.locator("#race-figures")).to_contain_text("16.0x")
    page.get_by_role("tab", name="Tokens over time").click()
    expect(page.locator("#race-tokens .scatterlayer path.js-line")).to_have_count(2)
    page.get_by_role("tab", name="Steps", exact=True).click()
    expect(page.locator("#race-steps .bars").first).to_be_visible()
    with page.expect_download() as download:
        page.locator("#race-get-figures").click()
    assert download.value.suggested_filename.endswith("_race.json")
    expect_to_fit(page)


def test_stop_and_equal_runners(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    open_studio(page, studio.url, "Compare")
    expect(page.locator("#race-go")).to_be_in_viewport()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#race-go").click()
    expect(page.locator("#race-status")).to_contain_text("(baseline): step")
    expect(page.locator("#race-status")).to_be_in_viewport()
    page.locator("#race-stop").click()
    expect(page.locator("#race-status")).to_contain_text(
        "Race stopped. Both runs must finish to be compared"
    )
    expect(page.locator("#race-go")).to_be_enabled()
    page.locator("#race-first input").click()
    page.get_by_role("option", name="row 1x1x16").click()
    page.locator("#race-go").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("choose two different ones")


@pytest.fixture
def two_models(tmp_path: Path) -> Iterator[str]:
    """A studio of the models `fake` and `by_row`, which has no tokens among its blocks."""
    fake, rows = FakePipeline(), FakePipeline("by_row")
    rows.block_shapes = ((1, 1, 16), (1, 4, 16))
    yield from serve(session_of(tmp_path / "models", fake=fake, by_row=rows))


def test_no_action_stays_with_another_model(page: Page, two_models: str) -> None:
    open_studio(page, two_models, "Compare")
    action = page.locator("#race-action").get_by_role("combobox")
    baseline = page.locator("#race-first").get_by_role("combobox")
    expect(action).to_have_value("drawer close")
    action.click()
    page.get_by_role("option", name="no action").click()
    for model, block in (("by_row", "row 1x1x16"), ("fake", "row 1x1x16")):
        page.get_by_role("combobox", name="Model").click()
        page.get_by_role("option", name=model).click()
        expect(baseline).to_have_value(re.compile(f"^{block}"))
        page.wait_for_timeout(500)  # nothing else comes of it
        expect(action).to_have_value("no action")
    for start, suggested in (("five frames", "no action"), ("an action", "drawer close")):
        page.get_by_role("radio", name=start).filter(visible=True).check()
        expect(action).to_have_value(suggested)


def test_two_clips_play_on_one_clock_with_their_difference(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0
    open_studio(page, studio.url)
    for seed in ("51", "52"):
        page.locator("#seed input").fill(seed)
        page.locator("#go").click()
        expect(page.locator("#gallery .card").first).to_contain_text(f"seed {seed}")
    open_tab(page, "Compare")
    page.get_by_role("button", name="Two of your clips, side by side").click()
    captions = page.locator("#pair figcaption")
    expect(captions.nth(0)).to_contain_text("seed 52")
    expect(captions.nth(1)).to_contain_text("seed 51")
    expect(page.locator("#pair-settings tbody tr")).to_have_count(1)
    expect(page.locator("#pair .clock")).to_have_attribute("aria-live", "off")
    page.locator("#pair .play").click()
    page.locator("#pair .seek").fill("9")
    expect(page.locator("#pair .clock")).to_have_text("frame 10 of 17")
    expect(page.get_by_role("img", name="frame 10")).to_have_count(2)
    assert not captions.nth(2).inner_text().endswith(": 0.0 grey levels on average")


def test_what_varied_in_a_grid_is_found_after_a_reload(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0
    open_studio(page, studio.url, "Compare")
    page.get_by_role("button", name="A grid of clips").click()
    page.locator("#grid-vary").get_by_label("block size").check()
    left_out = page.locator("#grid-blocks").get_by_label("token 1x1x1")
    left_out.uncheck()
    page.locator("#grid-go").click()
    expect(page.locator("#grid .open")).to_have_count(5)
    page.reload()
    expect(page.locator("#grid .open")).to_have_count(5)
    expect(page.locator("#grid-vary").get_by_label("block size")).to_be_checked()
    expect(page.locator("#grid-blocks input:checked")).to_have_count(5)
    expect(left_out).not_to_be_checked()
    expect(page.locator("#grid-seeds")).to_be_hidden()


@pytest.mark.timeout(300)
def test_a_grid_of_seeds_is_found_after_a_reload_and_its_cells_open(
    page: Page, studio: Studio
) -> None:
    studio.pipeline.step_s = 0.1
    open_studio(page, studio.url, "Compare")
    page.get_by_role("button", name="A grid of clips").click()
    page.locator("#grid-go").click()
    status = page.locator("#grid-status")
    expect(status).to_contain_text("Clips 1 to 4 of 4: seed 42, seed 43, seed 44 and 1 more. Step")
    page.reload()
    expect(status).to_contain_text("Clips 1 to 4 of 4")  # the box is open again
    expect(page.locator("#grid-stop")).to_be_enabled()
    cells = page.locator("#grid .open")
    expect(cells).to_have_count(4)
    expect(page.locator("#grid-measured")).to_contain_text("4 clips in")
    page.reload()
    expect(cells).to_have_count(4)
    page.locator("#grid .play").click()
    page.locator("#grid .seek").fill("9")
    expect(page.locator("#grid .clock")).to_have_text("frame 10 of 17")
    assert [cells.nth(i).locator("canvas").evaluate(PAINTED) for i in range(4)] == [128 * 128] * 4
    cells.first.focus()
    page.keyboard.press("ArrowRight")
    expect(cells.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Generate", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )
    expect(page.locator("#preview .play")).to_be_focused()
    expect(page.locator("#status")).to_contain_text("Done.")
    expect(page.locator("#gallery .card.opened")).to_contain_text("seed 43")

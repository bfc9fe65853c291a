"""Generate as a visitor sees it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright")
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio, serve
from tests.browser.visitor import (
    SLOW_ANSWERS,
    expect_clip,
    generate,
    open_studio,
    open_tab,
    wait_for_quiet,
)
from tests.support.engine import Continues, FakePipeline, session_of

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
    page.locator("#preview .seek").fill("16")
    frame = page.get_by_role("img", name="Frame 17 of 17")
    expect(frame).to_be_visible()
    page.get_by_role("tab", name="Timing").click()
    expect(page.locator("#timing .bars path").first).to_be_visible()
    expect(page.locator("#timing")).to_contain_text("median")
    page.get_by_role("tab", name="Frames").click()
    expect(page.get_by_alt_text("The 17 frames of the clip side by side")).to_be_visible()
    expect(page.locator("#measured")).to_contain_text("weights fake")
    with page.expect_download() as download:
        page.locator("#get-gif").click()
    assert download.value.suggested_filename.endswith(".gif")


PAINTED = """canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 3; i < data.length; i += 4) count += data[i] === 255;
  return count;
}"""


def test_the_clip_plays_where_it_was_made_and_its_making_can_be_watched(
    page: Page, studio: Studio
) -> None:
    page.set_viewport_size({"width": 1366, "height": 768})
    open_studio(page, studio.url)
    generate(page)
    for part in ("#go", "#preview .pane >> nth=0", "#preview .pane >> nth=1", "#preview .seek"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    page.locator("#preview .seek").fill("5")
    expect(page.locator("#preview .tokens-text")).to_contain_text("latent frame 3 of 5")
    page.get_by_role("button", name="One back").click()
    expect(page.locator("#preview .tokens-text")).to_contain_text("2 of 5 (frames 2 to 5)")
    page.locator("#preview .mode").select_option("steps")
    expect(page.locator("#preview .clock")).to_contain_text("step 1 of 80")
    expect(page.locator("#preview .clock")).to_have_attribute("aria-live", "off")
    tokens = page.locator("#preview canvas.tokens")
    assert tokens.evaluate(PAINTED) == 16
    page.get_by_role("button", name="One forward").click()
    assert tokens.evaluate(PAINTED) == 32
    expect(page.locator("#preview .frame-text")).to_contain_text("not decoded yet")
    page.locator("#preview .mode").select_option("0.25")
    expect(page.locator("#preview .play")).to_have_text("Pause")
    expect(page.locator("#preview .clock")).to_contain_text("step 80 of 80")
    expect(page.locator("#preview .frame-text")).to_have_text("Frame 17 of 17")


def test_a_token_is_linked_to_its_patch_and_its_odds(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    generate(page)
    expect(page.locator("#preview .legend")).to_contain_text("one of 4,375 codes")
    tokens = page.locator("#preview canvas.tokens")
    tokens.hover(position={"x": 3, "y": 3})
    read = page.locator("#preview .read")
    expect(read).to_contain_text("Row 1, column 1, frame")
    expect(read).to_contain_text("with probability 50.0 %")
    expect(read.locator("li")).to_have_count(5)
    expect(read.locator("li.own")).to_contain_text("50.0 %")
    expect(read.locator("li").last).to_be_in_viewport()
    expect(page.locator("#preview .legend")).to_be_hidden()
    picked = page.locator("#preview .picked >> visible=true")
    assert picked.count() == 2, "the token and its patch of the frame"
    tokens.focus()
    page.keyboard.press("ArrowDown")
    expect(read).to_contain_text("Row 2, column 1")


@pytest.mark.browser_context_args(has_touch=True)
def test_a_token_is_read_by_a_tap(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    generate(page)
    read, shown = page.locator("#preview .read"), page.locator("#preview .frame-text")
    page.locator("#preview canvas.tokens").tap(position={"x": 3, "y": 3})
    expect(read).to_contain_text("Row 1, column 1, frame")
    expect(read).to_contain_text("with probability 50.0 %")
    held = shown.text_content()
    page.wait_for_timeout(500)
    assert shown.text_content() == held, "the clip waits while one of its tokens is read"
    for _ in range(2):  # Pause, Play; without the focus, as on some phones
        page.locator("#preview .play").dispatch_event("click")
    expect(shown).not_to_have_text(held or "")
    page.locator("#preview .play").tap()
    expect(read).not_to_contain_text("Row")


def test_a_clip_plays_on_where_its_odds_cannot_be_had(page: Page, studio: Studio) -> None:
    asked = re.compile("component_server")
    page.route(asked, lambda route: route.fulfill(body="{torn"))
    open_studio(page, studio.url)
    generate(page)
    tokens, read = page.locator("#preview canvas.tokens"), page.locator("#preview .read")
    tokens.hover(position={"x": 3, "y": 3})
    expect(read).to_contain_text("The probabilities could not be computed.")
    page.locator("#status").hover()
    shown = page.locator("#preview .frame-text")
    expect(shown).not_to_have_text(shown.text_content() or "")
    page.unroute(asked)
    tokens.hover(position={"x": 3, "y": 3})
    expect(read).to_contain_text("with probability 50.0 %")


def test_on_a_phone_the_preview_comes_into_view(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    page.set_viewport_size({"width": 390, "height": 844})
    open_studio(page, studio.url)
    expect(page.locator("#preview .panes")).not_to_be_in_viewport()
    page.locator("#go").click()
    expect(page.locator("#preview .panes")).to_be_in_viewport(ratio=1, timeout=1000)
    expect(page.locator("#stop")).to_be_in_viewport(ratio=1)
    page.locator("#stop").click()


def test_on_a_phone_the_clip_of_a_quick_run_stays_in_view(page: Page, studio: Studio) -> None:
    """The page above and below the preview changes while it is still being scrolled to."""
    page.set_viewport_size({"width": 390, "height": 844})
    open_studio(page, f"{studio.url}?__theme=dark")
    assert page.evaluate("document.body.classList.contains('dark')")
    expect(page.locator("#go")).to_be_in_viewport()
    generate(page)
    page.wait_for_timeout(1000)
    expect(page.locator("#preview .panes")).to_be_in_viewport(ratio=1, timeout=1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_focus_goes_on_to_stop_and_back(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    open_studio(page, studio.url)
    page.locator("#go").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#go")).to_be_focused()


def test_a_tour_from_another_tab_leads_to_its_first_stop(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    open_tab(page, "Results")
    page.locator("#tour-open").click()
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator(".tour-ring")).to_be_visible()


def test_the_tour_on_a_phone_rings_the_button_behind_which_a_tab_lies(
    page: Page, studio: Studio
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_studio(page, studio.url)
    page.evaluate("localStorage.setItem('nbp-studio-tour', '7')")  # How it works
    page.locator("#tour-open").click()
    more = page.get_by_role("button", name="More tabs").first.bounding_box()
    ring = page.locator(".tour-ring")
    expect(ring).to_be_visible()
    box = ring.bounding_box()
    assert more is not None
    assert box is not None
    # The ring lies around the button and nothing else.
    assert 0 < more["x"] - box["x"] < box["width"] - more["width"] < 20
    assert 0 < more["y"] - box["y"] < box["height"] - more["height"] < 20


def test_the_tour_waits_can_be_left_and_is_remembered(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    page.get_by_role("button", name="Tour").click()
    card = page.get_by_role("dialog", name="Tour of the studio")
    expect(card).to_contain_text("1 of 8")
    expect(card).to_be_focused()
    for _ in range(3):
        card.get_by_role("button", name="Next").click()
    expect(card).to_contain_text("4 of 8")
    generate(page)
    expect(card).to_contain_text("4 of 8")
    card.focus()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(page.locator("#tour-open")).to_be_focused()
    page.reload()
    expect(page.locator("#status")).to_contain_text("Done.")
    page.get_by_role("button", name="Tour").click()
    expect(card).to_contain_text("4 of 8")
    for _ in range(5):
        card.get_by_role("button", name=re.compile("Next|Finish")).click()
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Tour").click()
    expect(card).to_contain_text("1 of 8")


def test_stop_keeps_what_there_is(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.1
    open_studio(page, studio.url)
    page.locator("#go").click()
    expect(page.locator("#preview .frame-text")).to_contain_text("Frame 1 of 17")
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("Stopped:")
    expect(page.locator("#preview .player")).to_be_visible()
    expect(page.locator("#go")).to_be_enabled()


def test_a_crash_is_one_sentence_and_the_next_run_works(page: Page, studio: Studio) -> None:
    studio.pipeline.fault_at = 5
    open_studio(page, studio.url)
    page.locator("#go").click()
    expect(page.locator("#status")).to_contain_text("failed because of a fault")
    assert "/secret" not in page.content()
    studio.pipeline.fault_at = None
    generate(page)


@pytest.fixture
def tiny_url() -> Iterator[str]:
    from app.session import Session

    yield from serve(Session(TINY.parent, "cpu"))


@pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not there")
def test_the_bundled_weights_make_a_clip(page: Page, tiny_url: str) -> None:
    open_studio(page, tiny_url)
    generate(page)
    expect(page.locator("#counters")).to_contain_text("95/95")


@pytest.fixture
def two_models(tmp_path: Path) -> Iterator[str]:
    """A studio with a model that has actions, which is chosen, and one that has none."""
    models = {"continues": Continues(), "fake": FakePipeline()}
    yield from serve(session_of(tmp_path / "models", **models))


def test_the_starts_follow_the_model_that_settings_bring(page: Page, two_models: str) -> None:
    open_studio(page, two_models)
    generate(page)
    page.locator("#model input").click()
    page.get_by_role("option", name="continues").click()
    actions = {
        tab: page.locator(start).get_by_label("an action")
        for tab, start in (("Generate", "#start"), ("Compare", "#race-start"))
    }
    for tab, action in actions.items():
        open_tab(page, tab)
        expect(action).to_have_count(0)
    open_tab(page, "Generate")
    page.locator("#gallery .use").click()
    expect(page.locator("#model input")).to_have_value("fake")
    expect(actions["Generate"]).to_be_checked()
    open_tab(page, "Compare")
    expect(actions["Compare"]).to_have_count(1)
    expect(page.locator("#race-start").get_by_label("five frames")).to_be_checked()


def test_choices_in_quick_succession_are_answered_and_then_nothing_is_asked(
    page: Page, two_models: str
) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_studio(page, two_models)
    for name in ("continues", "fake", "continues"):
        page.locator("#model input").click()
        page.get_by_role("option", name=name).click()
    action = page.locator("#start").get_by_label("an action")
    expect(action).to_have_count(0)
    wait_for_quiet(page)
    expect(page.locator("#model input")).to_have_value("continues")
    expect(action).to_have_count(0)


CHOOSE_ONCE_ASKED = """(choice, question) => new Promise((done) => {
  const look = () => {
    if (!window.asked.includes(question)) { requestAnimationFrame(look); return; }
    choice.click();
    done();
  };
  look();
})"""
"""Chooses at the moment at which the page has asked, long before the answer draws the choices."""


def test_a_start_chosen_while_a_model_is_loaded_stays(page: Page, two_models: str) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_studio(page, two_models)
    page.locator("#model input").click()
    page.get_by_role("option", name="continues").click()
    start = page.locator("#start")
    expect(start.get_by_label("an action")).to_have_count(0)
    expect(start.get_by_label("five frames")).to_be_checked()
    page.locator("#model input").click()
    page.get_by_role("option", name="fake").click()
    start.get_by_label("a first frame").evaluate(CHOOSE_ONCE_ASKED, '"fake","clip","",""]')
    expect(start.get_by_label("an action")).to_have_count(1)
    wait_for_quiet(page)
    expect(start.get_by_label("a first frame")).to_be_checked()
    expect(page.locator("#picture")).to_be_visible()


def test_steps_follow_the_length_and_a_list_of_actions(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    page.get_by_role("radio", name="33 frames").check()
    expect(page.get_by_role("radio", name="row 1x1x16: 144 steps")).to_be_checked()
    actions = page.get_by_role("textbox", name="Several actions")
    actions.fill("door-open*2 zoom-in")
    expect(page.get_by_role("radio", name="row 1x1x16: 64 steps")).to_be_checked()
    actions.fill("")
    expect(page.get_by_role("radio", name="row 1x1x16: 144 steps")).to_be_checked()


def test_the_square_of_a_picture_is_dragged(page: Page, studio: Studio, tmp_path: Path) -> None:
    """Left red, right blue: a run from the right end starts blue."""
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, :64, 0] = wide[:, 128:, 2] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    open_studio(page, studio.url)
    page.get_by_label("a first frame").check()
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "wide.png")
    square = page.locator("#picture .crop-square")
    expect(square).to_be_visible()
    slider = page.locator("#crop input[type=range]")
    expect(slider).to_have_value("0.5")
    square.hover()
    box = square.bounding_box()
    assert box is not None
    assert box["width"] == pytest.approx(64, abs=2), "as large as the picture is shown"
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 20, steps=4)
    page.mouse.up()
    expect(slider).to_have_value("1")
    generate(page)
    page.get_by_role("tab", name="Settings").click()
    blue = np.full((1, 128, 128, 3), (0, 0, 255), np.uint8)
    expect(page.locator("#manifest")).to_contain_text(hashlib.sha256(blue.tobytes()).hexdigest())


LATE_OPENING = """
const ask = window.fetch;
window.fetch = async (...request) => {
  const answer = await ask(...request);
  const isOfOpening = performance.now() < 3000 && String(request[0]).includes('/run/');
  if (isOfOpening) await new Promise((resolve) => setTimeout(resolve, 4000));
  return answer;
};
"""
"""What the page asked while it opened is answered late."""


def test_a_clip_begun_before_the_page_has_heard_all_is_followed(page: Page, studio: Studio) -> None:
    page.add_init_script(LATE_OPENING)
    studio.pipeline.step_s = 0.1
    open_studio(page, studio.url)
    generate(page)

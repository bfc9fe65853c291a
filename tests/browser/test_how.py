"""How it works as a visitor sees it: six steps with a clip, then any cut of the grid."""

from __future__ import annotations

import itertools
import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Studio, watched
from tests.browser.visitor import (
    SLOW_ANSWERS,
    expect_to_fit,
    generate,
    open_studio,
    open_tab,
    wait_for_quiet,
)

SHARE = """(canvas, rgb) => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    count += [0, 1, 2].every((c) => Math.abs(data[i + c] - rgb[c]) < 4) && data[i + 3] > 60;
  }
  return count / (data.length / 4);
}"""
NEW, FED, BLUE = [230, 159, 0], [0, 158, 115], [0, 114, 178]


def open_blocks(page: Page, url: str) -> None:
    open_studio(page, url, "How it works")
    expect(page.locator("#blocks-picture .told")).to_contain_text("Step ")


def test_six_steps_follow_one_token_of_the_visitors_own_clip(
    page: Page, empty_studio: Studio
) -> None:
    studio = empty_studio
    studio.pipeline.step_s = 0.001
    open_studio(page, studio.url, "How it works")
    steps = page.locator("#how-steps")
    expect(steps).to_contain_text("There is no clip yet")
    steps.get_by_role("link", name="Make one on the Generate tab").click()
    expect(page.locator("#go")).to_be_focused()
    generate(page)
    open_tab(page, "How it works")
    said = {name: steps.locator(f".{name}-read") for name in ("frames", "tokens", "mask", "made")}
    expect(said["frames"]).to_have_text("Frames 6 to 9 of 17 become latent frame 3 of 5.")
    expect(said["tokens"]).to_contain_text("Row 9, column 9, frames 6 to 9: token")
    expect(said["made"]).to_contain_text("Step 41 of 80: 16 tokens in orange")
    expect(said["mask"]).to_contain_text("It sees 640 of 1,280 tokens")
    steps.locator(".odds").scroll_into_view_if_needed()
    expect(steps.locator(".odds li")).to_have_count(5)
    expect(steps.locator(".odds li").first).to_contain_text("50.0 %, drawn")
    assert steps.locator("canvas.made").evaluate(SHARE, NEW) > 0.004
    assert steps.locator("canvas.made").evaluate(SHARE, FED) > 0.004

    steps.locator("canvas.tokens").press("ArrowUp")
    expect(said["tokens"]).to_contain_text("Row 8, column 9")
    expect(said["made"]).to_contain_text("Step 40 of 80")
    steps.get_by_role("slider", name="Frame").press("Home")
    expect(said["frames"]).to_have_text("Frame 1 of 17 becomes latent frame 1 of 5.")
    steps.get_by_role("slider", name="Step").press("End")
    expect(said["tokens"]).to_contain_text("Row 16, column 9, frames 14 to 17")
    steps.get_by_role("radio", name="token 1x1x1, 1,280 steps").check()
    expect(steps.locator(".blocks-read")).to_contain_text("Blocks of 1 token")
    expect(said["mask"]).to_contain_text("It sees 1,272 of 1,280 tokens")

    steps.get_by_role("link", name="send a clip through the encoder").press("Enter")
    expect(page.locator("#tokenize")).to_be_focused()
    expect(page).to_have_url(re.compile("tab=tokenizer"))
    open_tab(page, "How it works")
    page.reload()
    expect(said["frames"]).to_contain_text("latent frame 3 of 5")


def test_words_on_canvases_follow_the_systems_theme(page: Page, studio: Studio) -> None:
    """Also where another tab is open when the system turns dark."""
    brightness = """() => {
      const canvas = document.querySelector('#how-steps canvas.times');
      const { data } = canvas.getContext('2d').getImageData(0, 0, 48, 24);
      return Math.max(...data.filter((_, i) => i % 4 === 0 && data[i + 3] === 255)); }"""
    studio.pipeline.step_s = 0
    page.emulate_media(color_scheme="light")
    open_studio(page, studio.url)
    generate(page)
    open_tab(page, "How it works")
    expect(page.locator("#how-steps .times-read")).to_contain_text("steps took")
    assert page.evaluate(brightness) < 128
    open_tab(page, "Generate")
    page.emulate_media(color_scheme="dark")
    open_tab(page, "How it works")
    page.wait_for_function(f"({brightness})() > 128")


def test_a_row_is_followed_step_by_step(page: Page, studio: Studio) -> None:
    open_blocks(page, studio.url)
    told = page.locator("#blocks-picture .told")
    expect(told).to_have_text(re.compile(r"Step 18 of 95: block 3 of 80, 16 tokens at once. Each"))
    expect(told).to_contain_text(
        "latent frame 1, row 2, column 9 to latent frame 1, row 3, column 9"
    )
    grid = page.locator("#blocks-picture canvas.grid")
    assert grid.evaluate(SHARE, NEW) > 0.004
    assert grid.evaluate(SHARE, FED) > 0.004
    page.get_by_role("button", name="One step on").click()
    expect(told).to_contain_text("Step 19 of 95: block 4 of 80")
    grid.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(told).to_contain_text("15 placeholders at the places of block 1 predict it")
    page.locator("#blocks-picture").get_by_role("slider", name="Step").fill("1")
    expect(told).to_contain_text("one token of block 1. The begin-of-video token predicts it")
    page.locator("#blocks-picture .play").click()
    expect(told).to_contain_text("Step 95 of 95: block 80 of 80")
    expect(page.locator("#blocks-picture .play")).to_have_text("Play")


KEEP_STEPS = """(told) => {
  window.steps = [];
  new MutationObserver(() => {
    window.steps.push(Number(/Step ([\\d,]+)/.exec(told.textContent)[1].replaceAll(',', '')));
  }).observe(told, { childList: true });
}"""


def test_the_animation_waits_while_another_tab_is_open(page: Page, studio: Studio) -> None:
    open_blocks(page, studio.url)
    page.get_by_role("radio", name="token 1x1x1: 1,280 steps").check()
    told = page.locator("#blocks-picture .told")
    expect(told).to_contain_text("of 1,280")
    told.evaluate(KEEP_STEPS)
    picture = page.locator("#blocks-picture")
    picture.get_by_role("button", name="Play").click()
    page.wait_for_function("window.steps.length > 5")
    open_tab(page, "Generate")
    expect(told).to_be_hidden()
    seen = page.evaluate("window.steps.length")
    page.wait_for_timeout(1000)
    assert page.evaluate("window.steps.length") == seen
    open_tab(page, "How it works")
    page.wait_for_function(f"window.steps.length > {seen + 5}")
    steps = page.evaluate("window.steps")
    assert max(b - a for a, b in itertools.pairwise(steps)) == 3
    picture.get_by_role("button", name="Pause").click()
    expect(picture.get_by_role("button", name="Play")).to_be_visible()


def test_choices_in_quick_succession_are_all_kept(page: Page, studio: Studio) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_blocks(page, studio.url)
    shape = page.get_by_role("radio", name="frame 1x16x16:")
    shape.check()
    page.get_by_label("the first frame").check()
    wait_for_quiet(page)
    expect(page.locator("#blocks-picture .told")).to_contain_text("of 4")
    expect(shape).to_be_checked()
    expect(page.get_by_label("Height")).to_have_value("16")


def test_an_answer_that_comes_while_the_tab_is_left_is_drawn(page: Page, studio: Studio) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_blocks(page, studio.url)
    page.get_by_label("frame 1x16x16: 260 steps").check()
    open_tab(page, "Generate")
    wait_for_quiet(page)
    open_tab(page, "How it works")
    wait_for_quiet(page)
    expect(page.locator("#blocks-picture .told")).to_contain_text("of 260", timeout=5000)


def test_other_shapes_and_a_given_frame(page: Page, studio: Studio) -> None:
    open_blocks(page, studio.url)
    told = page.locator("#blocks-picture .told")
    page.get_by_label("frame 1x16x16: 260 steps").check()
    expect(told).to_contain_text("of 260")
    expect(page.locator("#blocks-numbers")).to_contain_text("4, 256.0x fewer than 1,024")
    page.get_by_label("the first frame").check()
    expect(told).to_contain_text("of 4")
    page.get_by_label("Height").fill("4")
    expect(told).to_contain_text("of 16")
    expect(page.get_by_role("radio", name="4 rows 1x4x16: 16 steps")).to_be_checked()
    page.get_by_label("Height").fill("3")
    refusal = page.get_by_role("alert").filter(has_text="does not tile")
    expect(refusal).to_contain_text("these do: 1x1x1, 1x1x8, 1x1x16")
    expect(told).to_contain_text("of 16")
    page.get_by_label("Height").fill("8")
    expect(told).to_contain_text("of 8")
    expect(refusal).to_have_count(0)


def test_the_mask_answers(page: Page, studio: Studio) -> None:
    open_blocks(page, studio.url)
    mask = page.locator("#blocks-picture canvas.mask")
    assert 0.4 < mask.evaluate(SHARE, BLUE) < 0.6, "about half of the square may be looked at"
    read = page.locator("#blocks-picture .read")
    box = mask.bounding_box()
    assert box
    mask.hover(position={"x": box["width"] - 3, "y": 3})
    expect(read).to_contain_text("may not look at latent frame 5")
    mask.hover(position={"x": 3, "y": box["height"] - 3})
    expect(read).to_contain_text("may look at")
    page.get_by_label("Zoom in on the first blocks").check()
    mask.hover(position={"x": 1, "y": box["height"] - 3})
    expect(read).to_have_text(re.compile("frame 1, row [34], column 16 may look at the condition"))


def test_the_mask_answers_keys_and_taps(browser: Browser, studio: Studio) -> None:
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})
    with watched(context.new_page()) as page:
        open_blocks(page, studio.url)
        mask, read = page.locator("#blocks-picture .mask"), page.locator("#blocks-picture .read")
        expect(mask).to_have_accessible_name(re.compile("Attention mask of 1281 positions"))
        expect(mask).to_have_accessible_description(re.compile("tap it, or use the arrow keys"))
        box = mask.bounding_box()
        assert box
        mask.tap(position={"x": box["width"] - 3, "y": 3})
        expect(read).to_contain_text("may not look at latent frame 5")
        expect(read).to_have_attribute("aria-live", "off")
        tapped = mask.screenshot()
        page.get_by_label("Zoom in on the first blocks").check()
        for _ in range(5):
            mask.press("Shift+ArrowLeft")
        expect(read).to_contain_text("may look at the condition")
        expect(read).to_have_attribute("aria-live", "polite")
        mask.press("ArrowRight")
        mask.press("ArrowRight")
        mask.press("ArrowDown")
        expect(read).to_contain_text("look at latent frame 1, row 1, column 1.")
        assert mask.screenshot() != tapped, "the place that is read is marked"
        assert mask.evaluate("mask => getComputedStyle(mask).outlineStyle") == "solid"
        page.get_by_label("frame 1x16x16: 260 steps").check()
        expect(read).to_contain_text("tap it, or use the arrow keys")
    context.close()


def test_tab_leads_from_control_to_control(page: Page, studio: Studio) -> None:
    open_blocks(page, studio.url)
    page.locator("#blocks-picture .zoom").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#blocks-go")).to_be_focused()


def test_speeds_are_measured_here_and_stand_apart_from_the_papers(
    page: Page, studio: Studio
) -> None:
    studio.pipeline.step_s = 0.002
    open_blocks(page, studio.url)
    expect(page.locator("#blocks-paper-chart")).to_contain_text("paper: frames per second")
    expect(page.locator("#blocks-paper")).to_contain_text("A100")
    page.locator("#blocks-go").click()
    expect(page.locator("#blocks-status")).to_contain_text("Done.")
    expect(page.locator("#blocks-speeds .bars path").first).to_be_visible()
    expect(page.locator("#blocks-speeds")).to_contain_text("ours: tokens per second")
    expect(page.locator("#blocks-measured")).to_contain_text("with weights fake")
    expect_to_fit(page)

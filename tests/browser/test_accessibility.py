"""axe-core finds nothing to complain about, in light and in dark, on any tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio, serve
from tests.browser.visitor import generate, open_studio, open_tab

ROOT = Path(__file__).parents[2]
READY = {
    "Play": "#play .go",
    "Compare": "#race-go",
    "Attention": "#attention-measured :text('Measured here')",
    "Tokenizer": "#tokenize",
    "How it works": "#how-steps .times-read:text('steps took')",
    "Results": "#results-speed .legend",
    "Models": "#model-list article",
}
"""What has to be there before a tab is looked at."""

pytestmark = pytest.mark.timeout(300)  # a busy machine


AT_REST = """() => {
  const moves = document.getAnimations().some(animation =>
    animation.playState === "running"
    && animation.effect.getComputedTiming().iterations !== Infinity);
  const waits = [...document.querySelectorAll(".pending")].some(part => part.checkVisibility());
  if (moves || waits || window.restsSince === undefined) window.restsSince = performance.now();
  return performance.now() - window.restsSince > 500;
}"""
"""Half a second with nothing fading, and nothing pale because Gradio is about to replace it."""
LOOKS = 3


def faults(page: Page) -> list[str]:
    """What axe-core finds that stays, one line for each element: between a look and the page at
    rest before it, a busy machine can have a change begin."""
    for _ in range(LOOKS):
        page.wait_for_function(AT_REST)
        found = _faults_now(page)
        if not found:
            break
    return found


def _faults_now(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in found
        for node in rule["nodes"]
    ]


def faults_in_both_themes(page: Page) -> list[str]:
    """In light, then in dark: a class of the page is all that parts them."""
    light = faults(page)
    page.evaluate("document.body.classList.add('dark')")
    dark = faults(page)
    page.evaluate("document.body.classList.remove('dark')")
    return light + [f"in dark: {fault}" for fault in dark]


def test_generate_is_for_everybody(page: Page, studio: Studio) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    open_studio(page, f"{studio.url}?__theme=light")
    assert faults_in_both_themes(page) == []
    generate(page)
    page.get_by_role("button", name="Restore settings from a file").click()
    page.get_by_role("button", name="Sampling").click()
    page.get_by_label("five frames").check()
    page.locator("#clip input[type=file]").wait_for(state="attached")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert faults_in_both_themes(page) == [], width


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from app.session import Session

    assets, results = ROOT / "assets", ROOT / "results"
    yield from serve(Session(ROOT / "weights", "cpu", assets=assets, results=results))


def test_every_tab_is_for_everybody(page: Page, url: str) -> None:
    open_studio(page, f"{url}?__theme=light")
    generate(page)
    assert faults_in_both_themes(page) == []
    for tab, part in READY.items():
        open_tab(page, tab)
        expect(page.locator(part).locator("visible=true").first).to_be_visible()
        assert faults_in_both_themes(page) == [], tab
    open_tab(page, "Tokenizer")
    page.get_by_label("a clip made here").check()
    page.get_by_role("button", name="Tokenize").click()
    expect(page.locator("#trip-pair img").first).to_be_visible()
    assert faults_in_both_themes(page) == []


def test_a_race_and_a_grid_are_for_everybody(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0
    open_studio(page, studio.url, "Compare")
    page.locator("#race-go").click()
    expect(page.locator("#race-status")).to_contain_text(
        "Finished. Press Replay to watch the race again."
    )
    page.get_by_role("button", name="A grid of clips").click()
    page.locator("#grid-go").click()
    expect(page.locator("#grid .open")).to_have_count(4)
    assert faults(page) == []


def test_tab_leaves_no_menu_open(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    for menu in ("#model input", "#action input"):
        page.locator(menu).focus()
        expect(page.locator(menu)).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Tab")
        expect(page.locator(menu)).not_to_be_focused()
        page.wait_for_timeout(300)  # Gradio would open it again a moment later
        expect(page.locator(menu)).to_have_attribute("aria-expanded", "false")
        expect(page.locator("[role=listbox]")).to_have_count(0)


FOCUS = """() => {
  const focused = document.activeElement;
  if (focused === document.body) return null;
  const parts = [focused, focused.parentElement, focused.nextElementSibling].filter(Boolean);
  const looks = () => JSON.stringify(parts.map((part) => {
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(part);
    return [outlineStyle === 'none' ? '' : outlineWidth, boxShadow];
  }));
  const held = looks();
  focused.blur();
  const isShown = looks() !== held;
  focused.focus({ preventScroll: true });
  return [isShown, `${focused.tagName} ${focused.id} in ${focused.closest('[id]')?.id}`];
}"""
"""The focused element: whether it looks otherwise than without the focus, and which it is."""


def test_tab_reaches_everything_and_its_focus_is_seen(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    page.add_style_tag(content="* { transition: none !important }")
    for tab in ("Generate", *READY):
        if tab != "Attention":  # it has no clip of the fake engine to show
            open_tab(page, tab)
            page.locator(READY.get(tab, "#go")).first.wait_for()
            reached, unseen = walk(page)
            assert reached > 8, tab
            assert unseen == [], tab


def walk(page: Page) -> tuple[int, list[str]]:
    """Presses Tab from the top of the page to its end: how many elements have had the focus, and
    which of them did not show it."""
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached: list[str] = []
    unseen: list[str] = []
    for _ in range(120):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUS)
        if focused is None and reached:
            break  # at the end, where the browser's own controls begin
        if focused is not None:
            is_shown, name = focused
            reached.append(name)
            unseen += [] if is_shown else [name]
    return len(reached), unseen


def test_tab_leaves_a_menu_whose_list_scrolls_for_the_next_control(
    page: Page, studio: Studio
) -> None:
    """Browsers stop at lists that scroll; this one closes as soon as the focus leaves the menu."""
    open_studio(page, studio.url)
    page.add_style_tag(content="[role=listbox] { max-height: 10px !important; overflow: auto }")
    page.locator("#action input").focus()
    expect(page.get_by_role("listbox")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_a_new_attempt_takes_the_old_note_away(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url)
    page.locator("#seed input").fill("-5")
    page.locator("#go").click()
    note = page.get_by_test_id("toast-body")
    expect(note).to_contain_text("seed must be a whole number from 0")
    page.locator("#seed input").fill("1.5")
    page.locator("#go").click()
    expect(note).to_contain_text("seed must be a whole number, not 1.5")
    page.locator("#seed input").fill("5")
    generate(page)
    expect(note).to_have_count(0)

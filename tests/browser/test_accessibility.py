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
from tests.browser.visitor import expect_clip, generate, open_studio, open_tab

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


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_generate_is_for_everybody(page: Page, studio: Studio, theme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_studio(page, f"{studio.url}?__theme={theme}")
    assert faults(page) == []
    page.locator("#go").click()
    expect_clip(page)
    page.get_by_role("button", name="Restore settings from a file").click()
    page.get_by_role("button", name="Sampling").click()
    page.get_by_label("five frames").check()
    page.locator("#clip input[type=file]").wait_for(state="attached")
    assert faults(page) == []


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from app.session import Session

    assets, results = ROOT / "assets", ROOT / "results"
    yield from serve(Session(ROOT / "weights", "cpu", assets=assets, results=results))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_tab_is_for_everybody(page: Page, url: str, theme: str) -> None:
    open_studio(page, f"{url}?__theme={theme}")
    generate(page)
    assert faults(page) == []
    for tab, part in READY.items():
        open_tab(page, tab)
        expect(page.locator(part).locator("visible=true").first).to_be_visible()
        assert faults(page) == [], tab
    open_tab(page, "Tokenizer")
    page.get_by_label("a clip made here").check()
    page.get_by_role("button", name="Tokenize").click()
    expect(page.locator("#trip-pair img").first).to_be_visible()
    assert faults(page) == []


def test_a_race_is_for_everybody(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.001
    open_studio(page, studio.url, "Compare")
    page.locator("#race-go").click()
    expect(page.locator("#race-status")).to_contain_text(
        "Finished. Press Replay to watch the race again."
    )
    assert faults(page) == []


def test_a_grid_is_for_everybody(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0
    open_studio(page, studio.url, "Compare")
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


@pytest.mark.parametrize(
    "tab", ["Generate", "Play", "Compare", "How it works", "Tokenizer", "Results", "Models"]
)
def test_tab_reaches_everything_and_its_focus_is_seen(page: Page, studio: Studio, tab: str) -> None:
    open_studio(page, studio.url, tab)
    page.add_style_tag(content="* { transition: none !important }")
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
    assert len(reached) > 8
    assert unseen == []


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

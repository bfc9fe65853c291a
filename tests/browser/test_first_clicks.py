"""How many clicks lie between an empty studio and what it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio, serve, serve_small_models
from tests.browser.visitor import (
    SLOW_ANSWERS,
    expect_clip,
    generate,
    open_studio,
    wait_for_quiet,
)
from tests.support.engine import fake_session

pytestmark = pytest.mark.timeout(300)  # a busy machine

ASSETS = Path(__file__).parents[2] / "assets"
COUNT = """
window.clicks = 0;
addEventListener('pointerdown', (event) => { window.clicks += event.isTrusted; }, true);
"""


@pytest.fixture
def page(page: Page) -> Page:
    """A page that counts the visitor's clicks since it was opened."""
    page.add_init_script(COUNT)
    return page


def clicks(page: Page) -> int:
    return int(page.evaluate("clicks"))


def test_a_first_clip_is_one_click(page: Page, empty_studio: Studio) -> None:
    open_studio(page, empty_studio.url)
    page.locator("#seed input").fill("7")
    page.locator("#recipe-robot").click()
    expect_clip(page)
    assert clicks(page) == 1
    expect(page.locator("#seed input")).to_have_value("42")
    expect(page.locator("#welcome")).to_be_hidden()


@pytest.fixture
def with_sample(tmp_path: Path) -> Iterator[str]:
    """A studio whose first screen has the bundled clip."""
    session, _ = fake_session(tmp_path / "models", assets=ASSETS)
    yield from serve(session)


def test_of_two_recipes_at_once_one_is_made_and_one_is_refused(
    page: Page, with_sample: str
) -> None:
    page.add_init_script(SLOW_ANSWERS)
    open_studio(page, with_sample)
    page.evaluate("for (const name of ['robot', 'cat'])"
                  " document.getElementById(`recipe-${name}`).click()")  # fmt: skip
    expect(page.get_by_test_id("toast-body")).to_contain_text("A run is in progress. Stop it or")
    expect_clip(page)
    wait_for_quiet(page)
    expect(page.locator("#gallery .card")).to_have_count(1)


def expect_clip_to_stay(page: Page) -> None:
    """Block and presets change the next run, not the clip that is shown."""
    for block, preset in (("2 rows 1x2x16", "Fast"), ("token 1x1x1", "Balanced")):
        page.locator("#block").get_by_label(block).check()
        page.wait_for_timeout(1000)
        page.locator("#presets").get_by_role("button", name=preset).click()
        expect(page.locator("#block").get_by_label(block)).not_to_be_checked()
        page.wait_for_timeout(1000)
        expect(page.locator("#preview .tokens-text")).to_contain_text("of 5 (frame", timeout=1000)


def test_the_bundled_clip_stays_while_settings_are_tried(page: Page, with_sample: str) -> None:
    open_studio(page, with_sample)
    expect(page.locator("#welcome")).to_contain_text("The clip below was made before")
    expect_clip_to_stay(page)
    expect(page.locator("#welcome")).to_be_visible()


def test_a_deleted_clip_stays_while_settings_are_tried(page: Page, empty_studio: Studio) -> None:
    open_studio(page, empty_studio.url)
    cut = page.locator("#preview .tokens-text")
    page.locator("#block").get_by_label("2 rows 1x2x16").check()
    expect(cut).to_contain_text("split into blocks: 2 rows 1x2x16")
    generate(page)
    page.locator("#gallery .delete").click()
    page.locator("#gallery .delete").click()
    expect(page.locator("#past")).to_be_hidden()
    expect_clip_to_stay(page)


def test_a_race_and_its_explanation_are_three_clicks_at_most(
    page: Page, empty_studio: Studio
) -> None:
    empty_studio.pipeline.step_s = 0
    open_studio(page, empty_studio.url)
    page.locator("#recipe-race").click()
    headline = page.locator("#race-headline")
    expect(headline).to_contain_text("median of 3 races")
    expect(headline).to_contain_text("fewer steps")
    expect(page.locator("#race-replay .state").nth(1)).to_contain_text("done in")
    assert clicks(page) <= 3


@pytest.fixture
def with_models(tmp_path: Path) -> Iterator[str]:
    yield from serve_small_models(tmp_path)


def test_figure_14_is_two_clicks(page: Page, with_models: str) -> None:
    open_studio(page, with_models)
    page.get_by_role("tab", name="Attention", exact=True).click()
    expect(page.locator("#attention-figure14")).to_contain_text("figure 14")
    maps = page.locator("#attention-map canvas.map")
    expect(maps).to_have_count(1)
    page.get_by_label("Show next-token attention alongside").check()
    expect(maps).to_have_count(2)
    assert clicks(page) == 2

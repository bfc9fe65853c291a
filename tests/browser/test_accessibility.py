"""axe-core finds nothing to complain about, in light and in dark, before and after a run."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Studio
from tests.browser.visitor import expect_clip, open_studio


def faults(page: Page) -> list[str]:
    """What axe-core finds, one line for each element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.timeout(300)  # a busy machine
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

"""What a visitor does on the page, in the words of the tests."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE_MS

expect.set_options(timeout=PATIENCE_MS)

SLOW_ANSWERS = """
const ask = window.fetch;
window.asked = "";
window.fetch = async (...request) => {
  window.lastAsked = performance.now();
  window.asked += request[1]?.body;
  await new Promise((resolve) => setTimeout(resolve, 200));
  return ask(...request);
};
"""
"""A script for a page whose questions all take a while."""


def open_studio(page: Page, url: str, tab: str = "Generate") -> None:
    """Goes to the page, waits until it can be used, and opens a tab."""
    page.goto(url)
    expect(page.locator("#status")).to_contain_text("Ready.")
    if tab != "Generate":
        open_tab(page, tab)


def open_tab(page: Page, name: str) -> None:
    """Goes to a tab; on a narrow page most of them lie behind a button with three dots."""
    tabs = page.get_by_role("tablist").first
    expect(tabs).to_be_visible()
    tab = tabs.get_by_role("tab", name=name, exact=True)
    if tab.count() == 0:
        page.get_by_role("button", name="More tabs").first.click()
        tab = page.locator(".overflow-dropdown").first.get_by_role("button", name=name, exact=True)
    tab.click()


def expect_to_fit(page: Page, width: int = 390) -> None:
    """No sideways scrolling at a width, that of a phone, once the page has settled."""
    page.set_viewport_size({"width": width, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


def generate(page: Page) -> None:
    """Makes a clip with the settings there are."""
    page.locator("#go").click()
    expect_clip(page)


def expect_clip(page: Page) -> None:
    """Waits for the clip of a finished run to play in the large pane."""
    expect(page.locator("#status")).to_contain_text("Done.")
    expect(page.locator("#preview .play")).to_have_text("Pause")
    shown = page.locator("#preview .frame-text")
    before = shown.text_content() or ""
    expect(shown).not_to_have_text(before)


def wait_for_quiet(page: Page) -> None:
    """Waits until a page with SLOW_ANSWERS asks nothing more."""
    page.wait_for_function("() => performance.now() - window.lastAsked > 2000")

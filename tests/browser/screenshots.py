"""Takes pictures of the studio: `python -m tests.browser.screenshots docs` those of README,
with `--all` every tab in both themes at three widths, with a clip, a race and a round trip.

Needs the bundled weights, Chromium and the development tools.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from app.session import Session
from tests.browser.conftest import CHROMIUM, FLAGS, PATIENCE_MS, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

ROOT = Path(__file__).parents[2]
VIEWS = {"generate": ("light", 1280, 1000), "generate-phone": ("dark", 390, 844)}
SIZES = ((1366, 768), (390, 844), (1920, 1080))
TABS = {
    "generate": "#preview .player",
    "play": "#play .go",
    "compare": "#race-replay .again",
    "attention": "#attention-measured :text('Measured here')",
    "how-it-works": "#how-steps .times-read:text('steps took')",
    "tokenizer": "#trip-pair img",
    "results": "#results-speed .legend",
    "models": "#model-list article",
}
"""The tabs by their names in the address, and what each shows when it is ready."""
SETTLE_MS = 2_000
"""For what fades in, plays or is drawn after it is there."""


def main() -> None:
    """Serves the studio and writes its pictures into a folder."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--all", action="store_true", help="every tab, themes and widths")
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    session = Session(
        ROOT / "weights", "cpu", assets=ROOT / "assets", results=ROOT / "results", is_local=True
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        for url in serve(session):
            if args.all:
                take_all(browser.new_context(), url, out)
                continue
            for name, (theme, width, height) in VIEWS.items():
                take(browser, f"{url}?__theme={theme}", (width, height), out / f"{name}.png")
        browser.close()


def take(browser: Browser, url: str, size: tuple[int, int], path: Path) -> None:
    """Makes a clip on a page of that size, and a picture of the page with it."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(2 * PATIENCE_MS)
    page.goto(url)
    page.locator("#status", has_text="Ready.").wait_for()
    page.locator("#go").click()
    page.locator("#status", has_text="Done.").wait_for()
    page.wait_for_selector("#preview .player", state="visible")
    page.screenshot(path=path, full_page=True)
    page.close()


def take_all(context: BrowserContext, url: str, out: Path) -> None:
    """A picture of every tab in every size and theme; results are found again from page to page."""
    page = context.new_page()
    page.set_default_timeout(3 * PATIENCE_MS)
    page.goto(url)
    page.locator("#status", has_text="Ready.").wait_for()
    for tab, button, status, said in (
        ("generate", "#go", "#status", "Done."),
        ("tokenizer", "#tokenize", "#tokenizer-status", "Done."),
        ("compare", "#race-go", "#race-status", "Finished."),
    ):
        page.goto(f"{url}?tab={tab}")
        if tab == "tokenizer":
            page.get_by_label("a clip made here").check()
        page.locator(button).click()
        page.locator(status, has_text=said).wait_for()
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            for tab, part in TABS.items():
                page.goto(f"{url}?tab={tab}&__theme={theme}")
                page.locator(part).locator("visible=true").first.wait_for()
                page.wait_for_timeout(SETTLE_MS)
                page.screenshot(path=out / f"{tab}-{theme}-{width}.png", full_page=True)


if __name__ == "__main__":
    main()

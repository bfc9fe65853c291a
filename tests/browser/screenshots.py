"""Takes README's pictures of the studio: `python -m tests.browser.screenshots docs`.

Needs the bundled weights, Chromium and the development tools. It makes a clip and shows the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from app.session import Session
from tests.browser.conftest import CHROMIUM, FLAGS, PATIENCE_MS, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
VIEWS = {"generate": ("light", 1280, 1000), "generate-phone": ("dark", 390, 844)}


def main() -> None:
    """Serves the studio, makes one clip for each picture and writes them into a folder."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    out: Path = parser.parse_args().out
    session = Session(
        ROOT / "weights", "cpu", assets=ROOT / "assets", results=ROOT / "results", is_local=True
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        for url in serve(session):
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


if __name__ == "__main__":
    main()

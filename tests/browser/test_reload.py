"""A page that is reloaded, on any tab, finds its job again: while it runs, and what came of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("playwright")
from PIL import Image
from playwright.sync_api import Page, expect

from tests.app.play.test_socket import write_episode
from tests.browser.conftest import PATIENCE_MS, Studio, serve, serve_small_models
from tests.browser.visitor import expect_clip, open_studio, open_tab
from tests.support.engine import add_model, fake_session

pytestmark = pytest.mark.timeout(300)  # several loads of the page, perhaps on a busy machine


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("reload")
    write_episode(folder / "assets" / "play")
    for name in ("extra", "fake"):
        add_model(folder / "models", name)
    session, pipeline = fake_session(folder / "models", assets=folder / "assets")
    for url in serve(session):
        yield Studio(url, pipeline)


@pytest.fixture
def studio(served: Studio) -> Studio:
    served.pipeline.step_s = 0.01
    return served


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Work that waits for it goes on when the test opens it, or ends."""
    gate = threading.Event()
    yield gate
    gate.set()


def reload(page: Page, tab: str) -> None:
    """Loads the page anew; the tab is still the open one."""
    page.reload()
    expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")


def visits(page: Page, tab: str) -> Iterator[None]:
    """The page as it is, then loaded anew: what came of a job is looked at on both."""
    yield
    reload(page, tab)
    yield


def test_a_clip_is_found_again(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.5
    open_studio(page, studio.url)
    page.locator("#block").get_by_label("2 rows 1x2x16").check()
    page.locator("#seed input").fill("321")
    page.locator("#go").click()
    expect(page.locator("#preview .frame-text")).to_contain_text("Frame 1 of 17")
    reload(page, "Generate")
    expect(page.locator("#status")).to_contain_text("Running")
    studio.pipeline.step_s = 0
    for _ in visits(page, "Generate"):
        expect_clip(page)
        expect(page.locator("#seed input")).to_have_value("321")
        expect(page.locator("#block").get_by_label("2 rows 1x2x16")).to_be_checked()
        expect(page.locator("#counters")).to_contain_text("40/40")
        expect(page.locator("#gallery .card").first).to_contain_text("seed 321")
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#manifest")).to_contain_text('"seed": 321')


def test_back_and_forward_lead_through_the_tabs(page: Page, studio: Studio) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_studio(page, studio.url)
    for name in ("Play", "Results"):
        open_tab(page, name)
        expect(page).to_have_url(re.compile(f"tab={name.lower()}"))
    chosen = page.locator("button[role=tab][aria-selected=true]").first
    for go, name in ((page.go_back, "Play"), (page.go_back, "Generate"), (page.go_forward, "Play")):
        go()
        expect(chosen).to_have_text(name)
    page.go_forward()
    expect(chosen).to_have_text("Results")


def test_a_race_is_found_again(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    open_studio(page, studio.url, "Compare")
    for menu, option in (("model", "extra"), ("race-action", "zoom in"), ("race-second", "2 rows")):
        page.locator(f"#{menu} input").click()
        page.get_by_role("option", name=option).click()
    page.locator("#race-seed input").fill("321")
    page.locator("#race-go").click()
    status = page.locator("#race-status")
    expect(status).to_contain_text("(baseline): step")
    page.evaluate("console.error = () => {}")  # Gradio logs requests that the reload ends
    reload(page, "Compare")
    expect(status).to_contain_text("(baseline): step")
    expect(page.locator("#race-go")).to_be_disabled()
    expect(page.locator("#race-stop")).to_be_enabled()
    studio.pipeline.step_s = 0
    for _ in visits(page, "Compare"):
        expect(status).to_contain_text("Finished.")
        expect(page.locator("#race-headline")).to_contain_text("median of 3 races")
        expect(page.locator("#race-replay .state").nth(1)).to_contain_text("done in")
        expect(page.locator("#race-go")).to_be_enabled()
        expect(page.locator("#model input")).to_have_value("extra")
        expect(page.locator("#model-facts")).to_contain_text("1.2M parameters")
        expect(page.locator("#race-action input")).to_have_value("zoom in")
        expect(page.locator("#race-second input")).to_have_value(re.compile("^2 rows 1x2x16"))
        expect(page.locator("#race-seed input")).to_have_value("321")


def test_a_round_trip_is_found_again(
    page: Page,
    studio: Studio,
    gate: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there_and_back = studio.pipeline.reconstruct

    def held(frames: Any) -> Any:
        assert gate.wait(PATIENCE_MS / 1e3)
        return there_and_back(frames)

    monkeypatch.setattr(studio.pipeline, "reconstruct", held)
    Image.new("RGB", (90, 70), "teal").save(tmp_path / "teal.png")
    open_studio(page, studio.url, "Tokenizer")
    page.get_by_role("radio", name="a picture").check()
    page.locator("#tokenizer-picture input[type=file]").set_input_files(tmp_path / "teal.png")
    page.locator("#tokenizer-crop input[type=range]").press("Home")
    page.locator("#tokenize").click()
    status = page.locator("#tokenizer-status")
    expect(status).to_contain_text("Encoding and decoding")
    reload(page, "Tokenizer")
    expect(status).to_contain_text("Encoding and decoding")
    expect(page.locator("#tokenize")).to_be_disabled()
    gate.set()
    for _ in visits(page, "Tokenizer"):
        expect(status).to_contain_text("Done.")
        expect(page.locator("#trip-figures")).to_contain_text("square at crop 0.00 of teal.png")
        expect(page.get_by_role("radio", name="a picture")).to_be_checked()
        expect(page.locator("#tokenizer-picture")).to_be_visible()
        expect(page.locator("#tokenizer-crop input[type=range]")).to_have_value("0")
        expect(page.locator("#trip-pair img")).to_have_count(2)
        expect(page.locator("#tokenize")).to_be_enabled()


def test_a_measurement_of_block_shapes_is_found_again(page: Page, studio: Studio) -> None:
    studio.pipeline.step_s = 0.2
    open_studio(page, studio.url, "How it works")
    page.locator("#blocks-go").click()
    status = page.locator("#blocks-status")
    expect(status).to_contain_text("Timing ")
    reload(page, "How it works")
    expect(status).to_contain_text("Timing ")
    expect(page.locator("#blocks-stop")).to_be_enabled()
    studio.pipeline.step_s = 0
    for _ in visits(page, "How it works"):
        expect(status).to_contain_text("Done.")
        expect(page.locator("#blocks-speeds .bars path").first).to_be_visible()
        expect(page.locator("#blocks-measured")).to_contain_text("with weights fake")
        expect(page.locator("#blocks-go")).to_be_enabled()


def test_a_clip_of_a_play_is_found_again(page: Page, studio: Studio) -> None:
    open_studio(page, studio.url, "Play")
    page.locator("#play .go").click()
    page.wait_for_function("document.querySelector('#play .picture').dataset.shown > 8")
    page.locator("#play .go").click()
    studio.pipeline.step_s = 5.0
    page.locator("#play .film").click()
    saved = page.locator("#play-saved")
    expect(saved).to_contain_text(re.compile(r"\w"))
    expect(page.locator("#play-get-clip")).to_be_hidden()
    reload(page, "Play")
    expect(saved).to_contain_text(re.compile(r"\w"))
    studio.pipeline.step_s = 0
    for _ in visits(page, "Play"):
        expect(saved).to_contain_text("The clip is ready")
        expect(page.locator("#play-get-clip")).to_be_visible()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from serve_small_models(tmp_path_factory.mktemp("models"))


def test_fingerprints_are_found_again(
    page: Page, models: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(folder: Path, on_progress: object) -> str:
        assert gate.wait(PATIENCE_MS / 1e3)
        return "a" * 64

    monkeypatch.setattr("nbp_core.models.catalogue.fingerprint", held)
    open_studio(page, models, "Models")
    page.locator("#fingerprints").click()
    status, listed = page.locator("#models-status"), page.locator("#model-list")
    expect(status).to_contain_text("Reading ")
    reload(page, "Models")
    expect(status).to_contain_text("Reading ")
    expect(page.locator("#fingerprints")).to_be_disabled()
    expect(listed).to_contain_text("fingerprint not computed yet")
    gate.set()
    for _ in visits(page, "Models"):
        expect(status).to_contain_text("Done.")
        expect(listed).to_contain_text("fingerprint aaaaaaaa (sha256)")
        expect(page.locator("#fingerprints")).to_be_enabled()


def test_a_conversion_is_found_again(
    page: Page,
    models: str,
    gate: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def held(file: Path, folder: Path, *, dtype: Any, on_start: Any) -> None:
        advance = on_start(SimpleNamespace(kind="tokenizer", num_bytes=2_000_000))
        advance(1_000_000)
        assert gate.wait(PATIENCE_MS / 1e3)
        advance(1_000_000)

    monkeypatch.setattr("nbp_core.models.released.convert.convert", held)
    (tmp_path / "released.pt").write_bytes(b"weights")
    open_studio(page, models, "Models")
    page.get_by_role("button", name="Convert here").click()
    page.locator("#convert-file").get_by_role("textbox").fill(str(tmp_path / "released.pt"))
    page.locator("#convert-name").get_by_role("textbox").fill("new")
    page.locator("#convert").click()
    status = page.locator("#models-status")
    expect(status).to_contain_text("Converting a tokenizer: 1.0 MB of 2.0 MB.")
    reload(page, "Models")
    expect(status).to_contain_text("Converting a tokenizer: 1.0 MB of 2.0 MB.")
    gate.set()
    for _ in visits(page, "Models"):
        expect(status).to_contain_text("Done. new is in the list of models.")


def test_what_was_open_in_attention_is_found_again(
    page: Page, models: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbp_core.generation.pipeline import VideoPipeline

    open_studio(page, models, "Attention")
    measured = page.locator("#attention-measured")
    expect(measured).to_contain_text("door-open, bundled clip")
    tokenize = VideoPipeline.tokenize

    def held(*values: Any) -> Any:
        assert gate.wait(PATIENCE_MS / 1e3)
        return tokenize(*values)

    monkeypatch.setattr(VideoPipeline, "tokenize", held)
    page.locator("#attention-clip input").click()
    page.get_by_role("option", name="drawer-close").click()
    expect(measured).to_contain_text("Opening the clip...")
    for drawn in ("#attention-map canvas.map", "#attention-look canvas", "#attention-heads canvas"):
        expect(page.locator(drawn)).to_have_count(0)
    page.wait_for_timeout(1000)  # for what the browser keeps
    page.evaluate("console.error = () => {}")  # Gradio logs the request that the reload ends
    reload(page, "Attention")
    expect(measured).not_to_contain_text("Measured here")
    gate.set()
    expect(measured).to_contain_text("drawer-close, bundled clip")
    page.get_by_role("button", name="Layer 2, head 1").click()
    for _ in visits(page, "Attention"):
        expect(measured).to_contain_text("layer 2, head 1,")
        expect(measured).to_contain_text("drawer-close, bundled clip")
        expect(page.get_by_label("Heads", exact=True)).to_have_value("head 1")
        page.wait_for_timeout(1000)

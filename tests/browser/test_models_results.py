"""Models and Results as a visitor sees them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from app.attention.study import attention_chart, study_of
from app.how.charts import paper_chart, speeds_chart, stored_chart
from app.how.measure import ShapeSpeed
from app.how.plan import SHAPES
from app.how.stored import FIGURES, stored
from app.results import charts, experiments, tables
from app.session import Session
from nbp_core.results.files import read_curves, read_results
from tests.app.results.test_results import BENCH, LOG
from tests.browser.conftest import serve
from tests.browser.visitor import expect_to_fit, open_studio, open_tab
from tests.support.models import save_pipeline

ASSETS = Path(__file__).parents[2] / "assets"
RESULTS = ASSETS.parent / "results"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    save_pipeline(tmp_path / "models")
    (tmp_path / "models" / "torn").mkdir()
    (tmp_path / "models" / "tiny" / "README.md").write_text("# t\n\nMade for <b>tests</b>.\n")
    return tmp_path / "models"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results" / "training").mkdir(parents=True)
    (tmp_path / "results" / "bench.json").write_text(json.dumps(BENCH))
    (tmp_path / "results" / "training" / "tiny.jsonl").write_text(LOG)
    return tmp_path / "results"


@pytest.fixture
def url(models: Path, results: Path) -> Iterator[str]:
    session = Session(models, "cpu", assets=ASSETS, results=results, is_local=True)
    yield from serve(session)


@pytest.fixture
def shown(models: Path) -> Iterator[str]:
    """With the figures that are kept with the project."""
    yield from serve(Session(models, "cpu", results=RESULTS))


def test_models_are_listed_and_a_new_one_is_found(page: Page, url: str, models: Path) -> None:
    open_studio(page, url, "Models")
    listed = page.locator("#model-list")
    expect(listed.get_by_role("heading", name="tiny")).to_be_visible()
    expect(listed).to_contain_text("Model folder 'torn' has no config.json.")
    expect(listed).to_contain_text("Made for <b>tests</b>.")
    expect(listed).to_contain_text("XL (random weights: speed only)")
    listed.get_by_text("Full model card").click()
    page.get_by_role("button", name="Compute fingerprints").click()
    expect(page.locator("#models-status")).to_contain_text("Done.")
    expect(listed).to_contain_text("(sha256)")
    expect(listed.locator("details p").filter(has_text="Made for <b>tests</b>.")).to_be_visible()
    shutil.copytree(models / "tiny", models / "twin")
    page.get_by_role("button", name="Refresh").click()
    expect(listed.get_by_role("heading", name="twin")).to_be_visible()
    page.locator("#model input").click()
    expect(page.get_by_role("option", name="twin")).to_be_visible()
    page.keyboard.press("Escape")
    expect_to_fit(page)


def test_fingerprints_can_be_stopped_and_a_refresh_leaves_them_alone(
    page: Page, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(folder: Path, on_progress: Callable[[int], object]) -> str:
        while True:
            on_progress(0)
            time.sleep(0.01)

    monkeypatch.setattr("nbp_core.models.catalogue.fingerprint", endless)
    open_studio(page, url, "Models")
    status = page.locator("#models-status")
    compute = page.get_by_role("button", name="Compute fingerprints")
    stop = page.get_by_role("button", name="Stop").filter(visible=True)
    expect(stop).to_be_disabled()
    compute.click()
    expect(status).to_contain_text("Reading nano")
    page.get_by_role("button", name="Refresh").click()
    expect(compute).to_be_disabled()
    expect(status).to_contain_text("Reading nano")
    stop.click()
    expect(status).to_contain_text("Stopped before the first fingerprint was computed.")
    expect(compute).to_be_enabled()
    expect(stop).to_be_disabled()
    expect(page.locator("#model-list")).to_contain_text("fingerprint not computed yet")


def test_a_refresh_offers_what_the_chosen_model_is_now(page: Page, url: str, models: Path) -> None:
    """Its folder may hold another model, or it has gone and another one is chosen."""
    menus = (("Generate", "#action"), ("Compare", "#race-action"))
    description = models / "tiny" / "config.json"
    data = json.loads(description.read_text())
    count = len(data["config"]["actions"])

    def refresh(name: str) -> None:
        data["config"]["actions"] = [f"{name}-{index}" for index in range(count)]
        description.write_text(json.dumps(data))
        open_tab(page, "Models")
        page.get_by_role("button", name="Refresh").click()
        for tab, menu in menus:
            open_tab(page, tab)
            expect(page.locator(menu).get_by_role("combobox")).to_have_value(f"{name} 0")

    open_studio(page, url)
    refresh("wave")
    shutil.copytree(models / "tiny", models / "other")
    shutil.rmtree(models / "tiny")
    description = models / "other" / "config.json"
    refresh("walk")
    expect(page.get_by_role("combobox", name="Model")).to_have_value("other")


def test_a_path_that_is_not_there_is_refused(page: Page, url: str) -> None:
    open_studio(page, url, "Models")
    page.get_by_role("button", name="Convert here").click()
    page.locator("#convert-file textarea, #convert-file input").fill("/nowhere/at/all.pt")
    page.locator("#convert-name textarea, #convert-name input").fill("new")
    page.get_by_role("button", name="Convert", exact=True).click()
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("Enter the path of a released file")


def test_results_tell_the_paper_from_ours(page: Page, url: str) -> None:
    open_studio(page, url, "Results")
    table = page.locator("#results-table1 table")
    expect(table.locator("td.paper").filter(has_text="8.89")).to_have_count(1)
    expect(table.locator("td.here").filter(has_text="48")).to_have_count(1)
    legend = page.locator("#results-speed .legend")
    expect(legend).to_contain_text("paper, one A100: 1x1x16")
    expect(legend).to_contain_text("measured here: 1x1x16")
    expect(page.locator("#results-curves .scatterlayer .trace")).to_have_count(1)
    expect(page.get_by_text("bench --presets XL")).to_be_hidden()
    page.get_by_role("link", name="How to reproduce each number").click()
    expect(page.locator("#results-repeat")).to_contain_text("bench --presets XL")
    expect(page.locator("#results-repeat button").first).to_be_focused()
    expect_to_fit(page)


def test_results_begin_with_tiles_and_fill_three_screens_at_most(page: Page, shown: str) -> None:
    page.set_viewport_size({"width": 1366, "height": 768})
    open_studio(page, shown, "Results")
    tiles = page.locator("#results-tiles .tile")
    expect(tiles).to_have_count(4)
    expect(page.locator("#results-chart .legend")).to_be_visible()
    expect(page.locator("#results-curves .legend")).to_be_visible()
    lowest = tiles.last.evaluate("tile => tile.getBoundingClientRect().bottom")
    assert lowest < 768
    assert page.evaluate("document.documentElement.scrollHeight") <= 3 * 768


def test_charts_lead_to_no_other_site(page: Page, shown: str) -> None:
    open_studio(page, shown, "Results")
    chart = page.locator("#results-speed")
    chart.locator(".legend").hover()
    expect(chart.get_by_role("button", name="Zoom in")).to_be_visible()
    expect(chart.get_by_role("link")).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 800])
def test_the_buttons_of_a_chart_cover_nothing_of_it(page: Page, shown: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    open_studio(page, shown, "How it works")
    place = page.locator("#blocks-paper-chart")
    place.locator(".legend").hover()
    expect(place.get_by_role("button", name="Zoom in")).to_be_visible()
    around, chart, bar = (
        box.evaluate("box => box.getBoundingClientRect().toJSON()")
        for box in (place, place.locator(".js-plotly-plot"), place.locator(".modebar"))
    )
    assert around["top"] <= bar["top"] < bar["bottom"] <= chart["top"]
    for other in (width - 100, width):
        page.set_viewport_size({"width": other, "height": 844})
        page.wait_for_timeout(500)
    height = place.locator(".js-plotly-plot").evaluate("box => box.clientHeight")
    assert height == chart["height"], "it grows with every change of the window"


HARD_TO_READ = """async (chart) => {
  const plot = document.querySelector('#results-speed .js-plotly-plot');
  const { data, layout } = JSON.parse(chart);
  await Plotly.newPlot(plot, data, {...layout, autosize: true}, {responsive: true});
  const whole = plot.getBoundingClientRect();
  const words = ['.xtick', '.ytick', '.xtitle', '.ytitle', '.legendtext', '.bartext', '.textpoint'];
  const parts = words.flatMap((kind) => [...plot.querySelectorAll(kind)].map((part) => {
    const isTurned = /rotate\\((?!0)/.test(part.outerHTML);
    return { kind, isTurned, name: part.textContent, box: part.getBoundingClientRect() };
  })).filter(({ box }) => box.width);
  const cut = parts.filter(({ box }) => box.left < whole.left - 1 || box.right > whole.right + 1
    || box.top < whole.top - 1 || box.bottom > whole.bottom + 1);
  // The box of a turned word is larger than the word.
  const upright = parts.filter(({ kind, isTurned }) => kind.endsWith('title') || !isTurned);
  const isOver = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const covered = upright.flatMap((one, i) => upright.slice(i + 1).map((other) => [one, other]))
    .filter(([one, other]) => isOver(one.box, other.box));
  return [...cut.map(({ name }) => name + ' is cut'),
    ...covered.map(([one, other]) => one.name + ' lies on ' + other.name)];
}"""


def all_charts() -> Iterator[tuple[str, Any]]:
    """Every chart of the three tabs that the project's own figures give, by a name."""
    results = read_results(RESULTS)[0]
    yield "speed", charts.speed_chart(tables.speeds_here(results))
    for title, file in experiments.titled(results).items():
        for name, draw in experiments.charts(file).items():
            yield f"{title}: {name}", draw()
    curves = read_curves(RESULTS / "training")[0]
    for group in {group for curve in curves for group in charts.groups(curve)}:
        yield group, charts.training_chart(curves, group)
    kept = stored(RESULTS)
    for key in FIGURES:
        if any(key in figures.by_shape for figures in kept):
            yield key, stored_chart(kept, key)
    yield "the paper", paper_chart()
    if study := study_of(results, "small"):
        yield "attention over many clips", attention_chart(study)
    speeds = [ShapeSpeed(shape=shape, timed_steps=9, step_ms=20) for shape in SHAPES]
    yield "speeds", speeds_chart(speeds)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("width", [1366, 390])
def test_no_word_of_a_chart_is_cut_or_covered(page: Page, shown: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    open_studio(page, shown, "Results")
    expect(page.locator("#results-speed .legend")).to_be_visible()
    faults = {name: page.evaluate(HARD_TO_READ, chart.to_json()) for name, chart in all_charts()}
    assert {name: found for name, found in faults.items() if found} == {}

"""Charts of experiments on the Results tab and on the Attention tab, from files alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.attention.study import COMMAND, EVEN, attention_chart, finds, study_of, study_text
from app.attention.tab import AttentionTab
from app.parts.follow import Follower
from app.results import experiments
from app.results.tab import NO_EXPERIMENT, ResultsTab
from app.session import Session
from nbp_core.cli.main import build_parser
from nbp_core.experiments.attention_study import PARTS
from nbp_core.results.files import ResultFile, read_result
from tests.support.engine import fake_session

HEAD = {
    "title": "An <experiment>", "device": "one core", "weights": "tiny abcd1234",
    "date": "2026-11-21", "command": "python -m nbp_core experiment longer",
}  # fmt: skip


def figure(metric: str, of: str, value: float) -> dict[str, Any]:
    return {"metric": metric, "of": of, "value": value, "clips": 4}


WAYS: dict[str, Any] = HEAD | {
    "kind": "evaluation",
    "rows": [
        figure(metric, f"blocks of 1x16x16, {way}", value)
        for way, values in (("paper", (700, 17)), ("neighbours", (650, 18)), ("entropy", (690, 9)))
        for metric, value in zip(
            ("Frechet distance (x)", "difference between clips of an action"), values, strict=True
        )
    ],
}
SHARES = dict.fromkeys(PARTS, 0.125)
STUDY: dict[str, Any] = HEAD | {
    "kind": "attention",
    "rows": [
        {"model": "tiny", "block": "1x1x16", "layer": 1, "head": 1, "clips": 50, **SHARES}
        | {"stripes": 2.5, "weight on stripes": 0.25},
        {"model": "tiny", "block": "1x1x16", "layer": 2, "head": 1, "clips": 50, **SHARES}
        | {"stripes": 0.0, "weight on stripes": 0.0},
        {"model": "tiny", "block": "1x1x16", "layer": 0, "head": 0, "clips": 50, **SHARES},
    ],
}
LONGER = HEAD | {
    "kind": "longer",
    "rows": [
        {"model": "tiny", "block": "1x1x16", "window": window, "sharpness": 20.0 - window}
        | {"of": "generated clips" if window else "real clips", "clips": 4}
        for window in range(4)
    ],
}


def write(folder: Path, name: str, data: Any) -> ResultFile:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return read_result(folder / name)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session, _ = fake_session(tmp_path / "models", step_s=0, results=tmp_path / "results")
    yield session
    session.close()


def test_ways_are_drawn_against_their_diversity(tmp_path: Path) -> None:
    charts = experiments.charts(write(tmp_path, "ways.json", WAYS))
    assert list(charts) == ["Frechet distance (x) against diversity"]
    marks = {trace.name: (trace.x[0], trace.y[0]) for trace in next(iter(charts.values()))().data}
    assert marks == {"paper": (17, 700), "neighbours": (18, 650), "entropy": (9, 690)}


def test_without_diversity_kinds_of_clips_are_bars(tmp_path: Path) -> None:
    rows = [
        figure("tokens per forward step", "next token", 1.0),
        figure("tokens per forward step", "drafts", 2.5) | {"unit": "tokens"},
        figure("drafted tokens kept", "drafts", 0.75),
    ]
    charts = experiments.charts(write(tmp_path, "spec.json", WAYS | {"rows": rows}))
    assert list(charts) == ["tokens per forward step"]
    chart = charts["tokens per forward step"]()
    assert (chart.data[0].y, chart.data[0].x) == (("next token", "drafts"), (1.0, 2.5))
    assert chart.data[0].name == "tokens per forward step, tokens"


def test_a_block_shape_that_was_never_trained_is_hollow(tmp_path: Path) -> None:
    row = {"model": "tiny", "block": "1x1x16", "steps": 95, "loss": 3.5}
    rows = [
        row | {"shape_was_trained": True},
        row | {"block": "2x2x2", "loss": 4.5, "shape_was_trained": False},
    ]
    blocks = HEAD | {"kind": "blocks", "rows": rows}
    charts = experiments.charts(write(tmp_path, "block-sizes.json", blocks))
    assert list(charts) == ["loss"]
    traces = charts["loss"]().data
    assert [(t.x, t.y, t.marker.symbol) for t in traces] == [
        (("1x1x16",), (3.5,), "circle"), (("2x2x2",), (4.5,), "circle-open"),
    ]  # fmt: skip


def test_axes_name_their_units(tmp_path: Path) -> None:
    row = {"model": "tiny", "block": "1x1x16", "loss": 3.5, "frames_s": 4.0}
    blocks = experiments.charts(write(tmp_path, "b.json", HEAD | {"kind": "blocks", "rows": [row]}))
    titles = [chart().layout.yaxis.title.text for chart in blocks.values()]
    assert titles == ["loss, nats per token", "frames per second"]
    rows = [row | {"unit": "grey levels"} for row in WAYS["rows"]]
    ways = experiments.charts(write(tmp_path, "w.json", WAYS | {"rows": rows}))
    [chart] = ways.values()
    assert "grey levels" in chart().layout.yaxis.title.text.replace("<br>", " ")


def test_an_evaluation_of_one_model_is_no_experiment(tmp_path: Path) -> None:
    one = WAYS | {"rows": WAYS["rows"][:2]}
    assert experiments.charts(write(tmp_path, "one.json", one)) == {}


def test_windows_are_a_line_and_real_clips_a_dashed_one(tmp_path: Path) -> None:
    charts = experiments.charts(write(tmp_path, "longer.json", LONGER))
    assert list(charts) == ["sharpness"]
    made, real = charts["sharpness"]().data
    assert (made.x, made.y) == ((1, 2, 3), (19, 18, 17))
    assert real.y == (20, 20)


def test_one_window_shows_real_clips_as_a_mark(tmp_path: Path) -> None:
    """A line from a place to itself cannot be seen."""
    file = write(tmp_path, "short.json", LONGER | {"rows": LONGER["rows"][:2]})
    assert "markers" in experiments.charts(file)["sharpness"]().data[-1].mode


def test_every_head_is_a_bar_of_all_parts(tmp_path: Path) -> None:
    chart = attention_chart(write(tmp_path, "attention.json", STUDY))
    assert [bar.name for bar in chart.data] == list(PARTS)
    for bar in chart.data:
        assert list(bar.x) == [0.125] * 3
        assert bar.y[1][0] == EVEN


def test_the_study_says_what_was_measured_and_lists_heads_with_stripes(tmp_path: Path) -> None:
    result = write(tmp_path, "attention.json", STUDY)
    assert study_of([write(tmp_path, "ways.json", WAYS), result], "tiny") == result
    text = study_text(result)
    assert "An &lt;experiment&gt;, on one core, weights tiny abcd1234" in text
    assert "Means over 50 real clips" in text
    assert "layer 1, head 1" in text
    assert "layer 2, head 1" not in text
    build_parser().parse_args(COMMAND.split()[3:])
    assert COMMAND in study_text(None)


def test_a_study_that_does_not_say_how_many_clips_is_shown(tmp_path: Path) -> None:
    rows = [row | {"clips": None} for row in STUDY["rows"]]
    assert "Means over 0 real" in study_text(
        study_of([write(tmp_path, "a.json", STUDY | {"rows": rows})], None)
    )


def test_the_chart_has_the_heads_of_one_model(tmp_path: Path) -> None:
    """With those of two models the bars of a head would be stacked."""
    given: list[dict[str, Any]] = list(STUDY["rows"])
    rows = [row | {"model": model} for model in ("tiny", "small") for row in given]
    result = write(tmp_path, "attention.json", STUDY | {"rows": rows})
    for asked, shown in (("small", "small"), ("tiny", "tiny"), ("other", "tiny"), (None, "tiny")):
        study = study_of([result], asked)
        assert study is not None
        assert {row["model"] for row in study.rows} == {shown}
        assert f"Heads of {shown}." in study_text(study)
        for bar in attention_chart(study).data:
            assert list(bar.x) == [0.125] * 3
    assert study_of([], "tiny") is None


def test_heads_are_named_by_what_they_do_most(tmp_path: Path) -> None:
    model, block = "tiny", "1x1x16"
    row = {"model": model, "block": block, "clips": 5}
    rows = [
        row | {"layer": 1, "head": 1, "own block": 0.2, "stripes": 3.0},
        row | {"layer": 2, "head": 3, "own block": 0.62, "stripes": 0.0},
        row | {"layer": 0, "head": 0, "own block": 0.9},
    ]
    result = write(tmp_path, "attention.json", STUDY | {"rows": rows})
    small = row | {"model": "small", "layer": 4, "head": 2, "own block": 0.7}
    other = write(tmp_path, "attention-small.json", STUDY | {"rows": [small]})
    assert [find.words for find in finds([other, result], model, block)] == [
        "Layer 2, head 3: looks within its own block (62%)",
        "Layer 1, head 1: vertical stripes, as in figure 14 (3 per clip)",
    ]
    [found] = finds([result, other], "small", block)
    assert (found.layer, found.head) == (4, 2), "each model from the file that measured it"
    assert finds([result], "another", block) == finds([], model, block) == []
    named = finds([result], model, block, "abcd1234" + 56 * "0")
    assert named == finds([result], model, block) != []
    assert finds([result], model, block, 64 * "0") == [], "other weights have other heads"


def test_the_tabs_read_the_files(session: Session, tmp_path: Path) -> None:
    with gr.Blocks(), gr.Tabs():
        with gr.Tab("Results") as room:
            results = ResultsTab(session, room)
        with gr.Tab("Attention") as other:
            model = gr.Dropdown(["tiny"], value="tiny")
            kept, newest = gr.BrowserState(), gr.BrowserState()
            made = Follower(session.jobs, "test", 0.5)
            attention = AttentionTab(session, other, model, kept, newest, made)
    assert results.read()[results.chart_text] == NO_EXPERIMENT
    assert COMMAND in attention.read_study("tiny")[attention.page.study_text]
    write(tmp_path / "results", "attention.json", STUDY)
    write(tmp_path / "results", "longer.json", LONGER)
    write(tmp_path / "results", "ways.json", WAYS)
    write(tmp_path / "results", "more-ways.json", WAYS)
    again = results.read()
    assert again[results.figure].value == "sharpness"
    assert "(longer.json)" in again[results.chart_text]
    title = f"{WAYS['title']}: more ways"
    chosen = results.read(title)
    assert "(more-ways.json)" in chosen[results.chart_text]
    assert "value" not in chosen[results.experiment].constructor_args
    menu, _, about = results.draw_experiment(title)
    assert menu.choices == [("Frechet distance (x) against diversity",) * 2]
    assert "(more-ways.json)" in about
    assert attention.read_study("tiny")[attention.page.study].visible

"""Models trained to be compared, in the Results tab: tables, charts, and what is the paper's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.results import trained
from app.results.tab import NO_EXPERIMENT, ResultsTab
from app.session import Session
from nbp_core.experiments.comparisons import COMPARISONS
from nbp_core.results.files import ResultError, ResultFile, read_result
from tests.support.engine import fake_session


def row(arm: str, seed: int, loss: float, **more: Any) -> dict[str, Any]:
    block = arm.rpartition(", ")[2]
    return {
        "arm": arm, "seed": seed, "block": block, "steps": 100, "loss": loss + 0.5,
        "loss_later": loss, "loss_error": 0.03, "frames_s": 4.0, **more,
    }  # fmt: skip


ROWS = [
    row("1x1x16-M, 1x1x16", 0, 4.0), row("1x1x1-M, 1x1x1", 0, 3.5, difference=-0.5),
    row("1x1x16-M, 1x1x16", 1, 4.2), row("1x1x1-M, 1x1x1", 1, 3.9, difference=-0.3),
]  # fmt: skip
FILE: dict[str, Any] = {
    "title": "Block <sizes>", "kind": "trained", "device": "a core", "weights": "in each row",
    "date": "2026-11-21", "command": "python -m nbp_core experiment trained-blocks", "rows": ROWS,
    "curves": [
        {"arm": "1x1x16-M, 1x1x16", "seed": seed, "step": step, "loss": loss}
        for seed, step, loss in ((0, 50, 5.0), (0, 100, 4.0), (1, 50, 6.0), (1, 100, 4.5))
    ],
}  # fmt: skip


def read(folder: Path, data: dict[str, Any], name: str = "trained-blocks.json") -> ResultFile:
    path = folder / name
    path.write_text(json.dumps(data))
    return read_result(path)


def test_seeds_become_a_mean_and_a_deviation(tmp_path: Path) -> None:
    row_arm, token = trained.arms(read(tmp_path, FILE))
    assert row_arm.mean("loss_later") == pytest.approx(4.1)
    assert row_arm.spread("loss_later", "loss_error") == pytest.approx(0.1 * 2**0.5)
    assert token.mean("difference") == pytest.approx(-0.4)
    assert row_arm.mean("difference") is None
    ends = trained.chart(read(tmp_path, FILE), "loss at the end")
    assert [list(trace.y) for trace in ends.data] == [
        pytest.approx([4.1, 3.7]), [4.0, 4.2, 3.5, 3.9],
    ]  # fmt: skip
    curves = trained.chart(read(tmp_path, FILE), "loss over the steps")
    assert [(list(t.x), list(t.y)) for t in curves.data] == [([50, 100], [5.5, 4.25])]


def test_a_torn_point_is_in_no_curve(tmp_path: Path) -> None:
    arm = {"arm": "1x1x16-M, 1x1x16", "seed": 2}
    torn = [arm | {"loss": 4.0}, arm | {"step": 50, "loss": None}, arm | {"step": "x", "loss": 4.0}]
    whole = trained.chart(read(tmp_path, FILE), "loss over the steps")
    file = read(tmp_path, FILE | {"curves": FILE["curves"] + torn})
    assert trained.chart(file, "loss over the steps") == whole


def test_one_seed_says_that_its_error_is_over_clips(tmp_path: Path) -> None:
    file = read(tmp_path, FILE | {"rows": ROWS[:2]})
    assert trained.arms(file)[0].spread("loss_later", "loss_error") == 0.03
    (trace,) = trained.chart(file, "loss at the end").data
    assert "one seed" in trace.name
    assert "one seed" in trained.view(file)


def test_the_papers_figures_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    text = trained.view(read(tmp_path, FILE))
    line = text[text.index("1x1x16-M") : text.index("</tr>", text.index("1x1x16-M"))]
    assert '<td class="here number">4.100</td>' in line
    assert '<td class="paper number">25.5</td>' in line
    assert "Validation loss grows with the block." in text
    assert 'class="paper' not in trained.view(read(tmp_path, FILE, "elastic.json"))


def test_the_papers_words_belong_to_experiments_that_there_are() -> None:
    assert trained._PAPERS.keys() < COMPARISONS.keys()


def test_a_row_without_its_loss_is_refused(tmp_path: Path) -> None:
    broken = {k: v for k, v in ROWS[0].items() if k != "loss_later"}
    with pytest.raises(ResultError, match="has no loss_later"):
        read(tmp_path, FILE | {"rows": [broken]})


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session, _ = fake_session(tmp_path / "models", step_s=0, results=tmp_path / "results")
    yield session
    session.close()


def test_the_tab_shows_the_chosen_experiment(session: Session, tmp_path: Path) -> None:
    with gr.Blocks(), gr.Tab("Results") as tab:
        results = ResultsTab(session, tab)
    assert results.read()[results.chart_text] == NO_EXPERIMENT
    (tmp_path / "results").mkdir(exist_ok=True)
    read(tmp_path / "results", FILE)
    first = results.read()
    assert first[results.experiment].value == "Block <sizes>"
    assert first[results.figure].value == "loss at the end"
    assert "Block &lt;sizes&gt;" in first[results.chart_text]
    assert '<td class="paper number">25.5</td>' in first[results.chart_text]
    chosen = results.read("Block <sizes>", "loss over the steps")
    assert chosen[results.chart].value != first[results.chart].value
    assert "value" not in chosen[results.figure].constructor_args
    assert results.draw_experiment("gone", "loss")[2] == NO_EXPERIMENT

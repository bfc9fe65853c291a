"""The Results tab: files of figures checked, the paper's figures beside ours and told apart."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.clips import run
from app.clips.request import make_request
from app.parts.tables import HERE_MARK, PAPER_MARK, column, table
from app.results import charts, tables
from app.results.floor import floor_section
from app.results.tab import NO_CURVE, ResultsTab
from app.results.tiles import tiles
from app.session import Session
from nbp_core.cli.main import build_parser
from nbp_core.config.presets import PAPER_PRESETS
from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES
from nbp_core.results import paper
from nbp_core.results.files import ResultError, read_curve, read_curves, read_result, read_results
from tests.support.engine import fake_session

BENCH: dict[str, Any] = {
    "title": "Speed", "kind": "bench", "device": "one <core>", "weights": "named in each row",
    "date": "2026-11-21", "command": "python -m nbp_core bench --presets XL --out bench.json",
    "machine": {"read_gb_s": 9.5},
    "rows": [
        {
            "model": "XL (random weights: speed only)", "weights": "random", "block": "1x1x16",
            "protocol": "k600", "num_steps": 48, "step_ms": 80.0, "total_s": 4.0,
        },
        {
            "model": "XL (random weights: speed only)", "weights": "random", "block": "1x1x1",
            "protocol": "ucf", "num_steps": 1280, "step_ms": 70.0, "total_s": 90.0,
        },
    ],
    "clips": [{"model": "tiny", "weights": "abcd1234", "block": "1x1x16", "frames_s": 8.25}],
}  # fmt: skip


def write(folder: Path, name: str, data: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in BENCH.items() if k != key}


def with_row(values: dict[str, Any]) -> dict[str, Any]:
    return BENCH | {"rows": [BENCH["rows"][0] | values]}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session, _ = fake_session(tmp_path / "models", step_s=0, results=tmp_path / "results")
    yield session
    session.close()


@pytest.fixture
def tab(session: Session) -> ResultsTab:
    with gr.Blocks(), gr.Tab("Results") as tab:
        return ResultsTab(session, tab)


def test_a_bench_is_read_with_its_clips(tmp_path: Path) -> None:
    result = read_result(write(tmp_path, "bench.json", BENCH))
    assert (result.name, result.kind, result.date) == ("bench.json", "bench", "2026-11-21")
    assert len(result.rows) == 2
    assert result.more["clips"][0]["frames_s"] == 8.25
    assert "machine" not in result.more


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("{", "bad.json is not JSON."),
        ("[]", "bad.json is not an object with a title, a kind and rows."),
        ("[" * 100_000, "bad.json is not JSON."),
        (without("weights"), "bad.json has no weights."),
        (BENCH | {"title": " "}, "bad.json has no title."),
        (BENCH | {"kind": "guess"}, "bad.json is of kind 'guess', not one of "),
        (BENCH | {"date": "yesterday"}, "bad.json has a date that is not like 2026-01-31."),
        (BENCH | {"rows": []}, "bad.json has no rows."),
        (BENCH | {"rows": [7]}, "Row 1 of rows in bad.json is not an object."),
        (BENCH | {"rows": [BENCH["rows"][0], {}]}, "Row 2 of rows in bad.json has no model."),
        (with_row({"model": 5}), "Row 1 of rows in bad.json has a model that is not text."),
        (with_row({"window": "a"}), "has a window that is not a whole number from 0 on."),
        (with_row({"clips": "25 clips"}), "has a clips that is not a whole number from 0 on."),
        (with_row({"layer": 1.5}), "has a layer that is not a whole number from 0 on."),
        (with_row({"head": -1}), "has a head that is not a whole number from 0 on."),
        (BENCH | {"clips": [{"a": [1]}]}, "Row 1 of clips in bad.json has a a that is neither"),
        (with_row({"model": "\ud800"}), "bad.json has half a character, such as \\ud800."),
        (json.dumps(BENCH).replace("8.25", "NaN"), "has a frames_s that is not a number."),
        (
            json.dumps(BENCH).replace("8.25", "1" + "0" * 400),
            "has a frames_s that is not a number.",
        ),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, data: Any, sentence: str) -> None:
    path = write(tmp_path, "bad.json", data)
    with pytest.raises(ResultError) as error:
        read_result(path)
    assert sentence in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_the_others_are_read_beside_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path, "a.json", BENCH)
    write(tmp_path, "b.json", "no")
    (tmp_path / "c.json").write_bytes(b"\xff\xfe")
    results, faults = read_results(tmp_path)
    assert [result.name for result in results] == ["a.json"]
    assert faults == ["b.json is not JSON.", "c.json is not text."]
    assert read_results(tmp_path / "none") == ([], [])


@pytest.mark.parametrize("text", [json.dumps(BENCH), "no"])
def test_a_name_that_is_no_text_can_be_sent_to_the_page(tmp_path: Path, text: str) -> None:
    """Old archives write names in other encodings."""
    write(tmp_path, os.fsdecode(b"cl\xe9ment.json"), text)
    assert "ment.json" in tables.repeat(*read_results(tmp_path)).encode().decode()


def test_of_a_very_long_file_the_page_shows_the_beginning(tmp_path: Path) -> None:
    rows = BENCH["rows"] * 20_000
    text = tables.repeat([read_result(write(tmp_path, "long.json", BENCH | {"rows": rows}))], [])
    assert "The first 500 of 40,000 rows" in text
    assert text.count("<tr>") == 1 + 500
    short = tables.repeat([read_result(write(tmp_path, "bench.json", BENCH))], [])
    assert "All 2 rows" in short


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    write(tmp_path, "a.json", BENCH)
    [first], _ = read_results(tmp_path)
    [again], _ = read_results(tmp_path)
    assert again is first
    write(tmp_path, "a.json", BENCH | {"title": "Measured once more"})
    [changed], _ = read_results(tmp_path)
    assert changed.title == "Measured once more"
    write(tmp_path, "a.json", "no")
    assert read_results(tmp_path)[0] == []


LOG = (
    '{"step": 1, "elapsed": 30.0, "loss": 4.0, "grad_norm": 1.0}\n'
    '{"step": 2, "elapsed": 90.0, "loss": 3.0, "val_1x1x1": 2.5, "val_1x1x16": 2.25}\n'
)


def test_a_training_log_becomes_curves(tmp_path: Path) -> None:
    curve = read_curve(write(tmp_path, "tiny.jsonl", LOG))
    assert curve.minutes == 1.5
    assert curve.metrics["loss"] == ((1, 4.0), (2, 3.0))
    assert curve.metrics["val_1x1x16"] == ((2, 2.25),)
    assert charts.groups(curve) == {
        "loss": ["loss"],
        "grad_norm": ["grad_norm"],
        charts.BY_BLOCK: ["val_1x1x1", "val_1x1x16"],
    }
    chart = charts.training_chart([curve], charts.BY_BLOCK)
    assert [trace.name for trace in chart.data] == [
        "tiny: validation, 1x1x1", "tiny: validation, 1x1x16",
    ]  # fmt: skip


def test_a_broken_log_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", LOG + '{"loss": 2}\n')
    write(tmp_path, "b.jsonl", "")
    write(tmp_path, "c.jsonl", LOG + "{\n")
    curves, faults = read_curves(tmp_path)
    assert curves == []
    assert faults == [
        "Line 3 of a.jsonl has no step.", "b.jsonl holds no metrics.",
        "Line 3 of c.jsonl is not JSON.",
    ]  # fmt: skip


def test_a_log_that_is_being_written_is_a_curve(tmp_path: Path) -> None:
    cut = read_curve(write(tmp_path, "a.jsonl", LOG + '{"step": 3, "lo'))
    assert cut.metrics["loss"] == ((1, 4.0), (2, 3.0))
    whole = read_curve(write(tmp_path, "b.jsonl", LOG + '{"step": 3, "loss": 2.0}'))
    assert whole.metrics["loss"][-1] == (3, 2.0)


@pytest.mark.parametrize("name", ["step", "loss"])
def test_a_number_too_large_for_a_curve_is_refused(tmp_path: Path, name: str) -> None:
    row = {"step": 1, "loss": 2.0, name: 10**400}
    with pytest.raises(ResultError, match=f"Line 1 of a.jsonl has a {name} that is not a number"):
        read_curve(write(tmp_path, "a.jsonl", json.dumps(row)))


def test_a_log_of_one_step_is_a_point(tmp_path: Path) -> None:
    """A line through one point is nothing that can be seen."""
    curve = read_curve(write(tmp_path, "short.jsonl", '{"step": 1, "loss": 2.0}'))
    assert "markers" in charts.training_chart([curve], "loss").data[0].mode


def test_long_curves_are_thinned_by_medians(tmp_path: Path) -> None:
    rows = [json.dumps({"step": i, "loss": float(i % 2)}) for i in range(1, 3001)]
    curve = read_curve(write(tmp_path, "long.jsonl", "\n".join(rows)))
    line = charts.training_chart([curve], "loss").data[0]
    assert len(line.x) == 300
    assert line.x[-1] == 3000
    assert set(line.y) == {0.5}


def test_table_1_stands_alone_until_something_is_measured() -> None:
    text = tables.table1([])
    assert "Not measured here yet" in text
    assert "37.4" in text
    names = [trace.name for trace in charts.speed_chart({}).data]
    assert names == ["paper, one A100: 1x1x1", "paper, one A100: 1x1x16"]
    words = tables.BENCH.split()[3:]
    assert callable(build_parser().parse_args(words).run)


def test_ours_stands_beside_the_papers_and_is_told_apart(tmp_path: Path) -> None:
    results = [read_result(write(tmp_path, "bench.json", BENCH))]
    here = tables.speeds_here(results)
    [(key, speed)] = here.items()
    assert key == ("XL", "1x1x16")
    assert (speed.fps, speed.steps) == (3.0, 48), "12 frames in 4 s; the ucf row is another task"
    text = tables.table1(results)
    row = text[text.index("NBP") : text.index("</tr>", text.index("NBP"))]
    cells = [cell.split("</td>")[0] for cell in row.split("<td")[1:]]
    assert cells[1] == ' class="paper number">48'
    assert cells[2] == ' class="here number">48'
    assert cells[4:] == [' class="paper number">8.89', ' class="here number">3.00']
    assert "one &lt;core&gt;, weights random, 2026-11-21" in text
    assert "with random weights" in text
    chart = charts.speed_chart(here)
    assert [trace.name for trace in chart.data] == [
        "paper, one A100: 1x1x1", "paper, one A100: 1x1x16", "measured here: 1x1x16",
    ]  # fmt: skip
    looks = {(t.marker.color, t.marker.pattern.shape) for t in chart.data}
    assert len(looks) == 2


def test_whole_clips_stand_beside_the_papers_blocks(tmp_path: Path) -> None:
    results = [read_result(write(tmp_path, "bench.json", BENCH))]
    text = tables.by_block(results)
    assert "tiny (abcd1234) on one &lt;core&gt;" in text
    assert '<td class="here number">8.25</td>' in text
    timed = read_result(write(tmp_path, "steps.json", BENCH | {"clips": []}))
    assert "(steps.json)" not in tables.by_block([*results, timed]), "it has no whole clips"
    assert '<td class="paper number">17.1</td>' in text


def test_a_bench_shows_floor_memory_smaller_weights_and_other_programs(tmp_path: Path) -> None:
    measured = {"weight_format": "float16", "floor_ms": 40.0, "ratio": 2.0, "peak_bytes": 3.4e9}
    bench = BENCH | {
        "rows": [row | measured for row in BENCH["rows"]],
        "losses": [{"model": "tiny", "loss": 2.0471, "plain_loss": 2.0468, "clips": 6}],
        "against": [
            {"other": other, "model": f"<{other}>", "our_ms": 3.0, "their_ms": 9.0, "ratio": 3.0}
            for other in ("transformers", "released")
        ],
    }
    text = floor_section([read_result(write(tmp_path, "bench.json", bench))])
    row = text[text.index("1x1x16") : text.index("</tr>", text.index("1x1x16"))]
    assert [cell.split(">")[-1] for cell in row.split("</td>")[1:5]] == [
        "80.0", "40.0", "2.00", "3.40",
    ]  # fmt: skip
    assert '">XL</td><td class="">random</td>' in text, "each row names its weights"
    assert "1x1x1<" not in text, "the ucf row stands in the whole table"
    assert "2.0471" in text
    libraries = text.index("&lt;transformers&gt;")
    assert text.index("Hugging Face transformers") < libraries < text.index("&lt;released&gt;")
    assert text.count("The same next-token model") == text.count("(rewritten in plain PyTorch") == 1
    assert floor_section([read_result(write(tmp_path, "old.json", BENCH))]) == ""


def test_smaller_weights_do_not_stand_beside_the_papers(tmp_path: Path) -> None:
    rows = [row | {"weight_format": "int4", "total_s": 0.001} for row in BENCH["rows"]]
    small = read_result(write(tmp_path, "a.json", BENCH | {"rows": rows}))
    plain = read_result(write(tmp_path, "b.json", BENCH))
    assert not tables.speeds_here([small])
    assert tables.speeds_here([small, plain]) == tables.speeds_here([plain])


def test_a_table1_file_goes_before_a_bench(tmp_path: Path) -> None:
    row = {"model": "XL", "method": "NBP", "block": "1x1x16", "steps": 48, "fps": 9.0, "fvd": 40.5}
    kept = BENCH | {"kind": "table1", "rows": [row]}
    results = [
        read_result(write(tmp_path, name, data))
        for name, data in (("a.json", kept), ("b.json", BENCH))
    ]
    speed = tables.speeds_here(results)["XL", "1x1x16"]
    assert (speed.fps, speed.steps, speed.file.name) == (9.0, 48, "a.json")
    text = tables.table1(results)
    assert '<td class="here number">40.5</td>' in text
    assert [name in text for name in ("(a.json)", "(b.json)")] == [True, False], "not its source"


def test_tokenizers_measured_here_get_rows_of_their_own(tmp_path: Path) -> None:
    row = {"tokenizer": "nano", "data": "robot <arm>", "psnr": 23.64, "ssim": 0.75}
    result = BENCH | {"kind": "tokenizer", "rows": [row]}
    text = tables.table7([read_result(write(tmp_path, "t.json", result))])
    assert text.count(f'<span class="here">{HERE_MARK}') == 1
    assert text.count(f'<span class="paper">{PAPER_MARK}') == len(paper.TABLE7.rows)
    assert "robot &lt;arm&gt;" in text


def test_the_tab_reads_files_anew(tab: ResultsTab, tmp_path: Path) -> None:
    first = tab.read()
    assert first[tab.training_text] == NO_CURVE
    assert "There are none yet" in first[tab.repeat]
    write(tmp_path / "results", "bench.json", BENCH)
    write(tmp_path / "results", "torn.json", "{")
    write(tmp_path / "results" / "training", "small.jsonl", LOG)
    write(tmp_path / "results" / "training", "tiny.jsonl", LOG)
    again = tab.read()
    assert BENCH["command"] in again[tab.repeat]
    assert '<p class="fault">torn.json is not JSON.</p>' in again[tab.repeat]
    assert again[tab.runs].value == ["small", "tiny"], "both logged the same figures"
    assert again[tab.metric].value == "loss"
    assert "run tiny, 2 steps in 2 minutes" in again[tab.training_text]
    chosen = tab.read(runs=["tiny", "gone"], metric="grad_norm")
    assert chosen[tab.runs].value == ["tiny"]
    assert "value" not in chosen[tab.metric].constructor_args, "another may be chosen meanwhile"
    assert tab.draw_training(["tiny"], "gone", 0)[0].value == "loss"
    assert "Tick a run" in tab.draw_training([], None, 0)[2]


def test_smoothing_averages_training_and_leaves_validations(tmp_path: Path) -> None:
    rows = [json.dumps({"step": i, "loss": float(i % 2), "val_loss": i % 2}) for i in range(8)]
    runs = [read_curve(write(tmp_path, f"{name}.jsonl", "\n".join(rows))) for name in "ab"]
    rough, validation, *other = charts.training_chart(runs, "loss").data
    smoothed, same, *_ = charts.training_chart(runs, "loss", 0.9).data
    assert len(other) == 2, "a run more, a line of each kind more"
    assert rough.y == (0, 1) * 4
    assert max(smoothed.y) - min(smoothed.y) < 0.6
    assert 0.4 < smoothed.y[-1] < 0.6, "around the mean, with no pull towards zero"
    assert same.y == validation.y
    assert charts.smooth([3.0, 3.0], 0.95) == pytest.approx([3.0, 3.0])


def test_columns_are_of_one_precision_and_none_is_empty() -> None:
    text = table("t", ("a", "b", "c"), [("x", 0.5, None), ("y", 12.25, "-"), ("z", None, None)])
    assert [cell.split("<")[0] for cell in text.split('<td class="number">')[1:]] == [
        "0.5", "12.2", "-",
    ]  # fmt: skip
    assert ">c<" not in text
    assert column([1, 1280, None]) == ["1", "1,280", "-"]
    assert column([0.0123, 1.5]) == ["0.01", "1.50"]


def test_tiles_come_first_and_say_what_was_measured(tmp_path: Path) -> None:
    empty = tiles([])
    assert empty.count("Not measured here yet.") == 4
    clips = [{"model": "of rows alone", "block": "1x1x16", "frames_s": 9}]
    clips += [
        {"model": "tiny", "weights": "0123abcd", "block": b, "frames_s": f}
        for b, f in (("1x1x1", 2), ("1x1x16", 20))
    ]
    accuracy = [
        {"metric": "action accuracy", "of": of, "value": value, "clips": 50}
        for of, value in (("real clips", 1.0), ("generated clips", 0.98))
    ]
    psnr = [{"tokenizer": "nano", "data": "robot <arm>", "psnr": 27.42}]
    files = (
        BENCH | {"clips": clips},
        BENCH | {"kind": "evaluation", "rows": accuracy},
        BENCH | {"kind": "tokenizer", "rows": psnr, "weights": "nano 4567cdef"},
    )
    results = [read_result(write(tmp_path, f"{i}.json", file)) for i, file in enumerate(files)]
    text = tiles(results)
    assert [part.split("</dd>")[0] for part in text.split("<dd>")[1:]] == [
        "10.0x", "2.5x", "98.0%", "27.4 dB",
    ]  # fmt: skip
    assert "PSNR of nano 4567cdef, robot &lt;arm&gt;" in text
    assert "whole clips of tiny 0123abcd on" in text
    assert "Rows, tiny 0123abcd," in text
    assert "one &lt;core&gt;" in text


def test_runs_of_the_session_are_listed(session: Session) -> None:
    assert "No runs yet" in tables.session_runs(session.jobs.finished())
    request = make_request(
        model="fake", start="action", action="door-open", picture=None, clip=None,
        block="1x1x16", num_frames=17, temperature=1, top_k=10, top_p=0.9, guidance=1, seed=3,
    )  # fmt: skip
    job = session.jobs.submit(partial(run.run, session, request), request)
    assert job.finished.wait(60)
    text = tables.session_runs(session.jobs.finished())
    assert "door-open_fake_1x1x16_seed3" in text
    assert '<td class="number">80</td>' in text
    # Of a batch the time is shared out, and a clip of an earlier session is no run of this one.
    alone = job.result
    four = replace(alone, seconds=8.0, new_frames=16, num_together=4)
    session.jobs.submit(lambda job: four).finished.wait(60)
    session.jobs.adopt("earlier", request, replace(alone, clip=alone.clip.with_stem("earlier")))
    text = tables.session_runs(session.jobs.finished())
    assert re.search(r'number">2\.0+</td><td class="here number">8(\.0+)?</td>', text)
    assert "earlier" not in text


def test_the_papers_tables_fit_what_the_engine_knows() -> None:
    assert {row.preset for row in paper.TABLE1.rows} == set(PAPER_PRESETS)
    assert [row.block_shape for row in paper.FIGURE_6_7.rows] == list(FIGURE6_SHAPES)
    assert [row.block_shape for row in paper.TABLE3.rows] == list(TABLE3_SHAPES)
    ntp, nbp = paper.TABLE1.rows[:2]
    assert nbp.fps / ntp.fps == pytest.approx(15.04 / 1.35, rel=0.01), "seconds and frames agree"
    for one in (paper.TABLE1, paper.TABLE2, paper.FIGURE_6_7, paper.TABLE3, paper.TABLE7):
        assert "arXiv 2502.07737" in one.source

"""A grid without a browser: what it is made of, how it is made, and what the page shows of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import gradio as gr
import numpy as np
import pytest

from app.clips.kept import find_clip
from app.clips.request import make_request
from app.clips.run import run as make_clip
from app.compare.grid import view
from app.compare.grid.form import Cell, Varied, cells_of, read_numbers
from app.compare.grid.run import GridResult, run
from app.compare.tab import CompareTab
from app.jobs import Job, JobState, JobView
from app.parts.follow import Follower
from app.session import Session
from nbp_core.generation.pipeline import VideoPipeline
from tests.support.engine import FakePipeline, add_model, small_clips

SHARED: dict[str, Any] = {
    "model": "fake", "start": "action", "action": "door-open", "picture": None, "clip": None,
    "temperature": 1.0, "top_k": 2000, "top_p": 0.9, "guidance": 1.0, "seed": 7, "crop": 0.5,
}  # fmt: skip
USUAL: dict[str, Any] = {
    "vary": "seed", "num_seeds": 3, "blocks": ["1x1x16", "1x16x16"], "temperatures": "0.5, 1",
    "models": ["fake", "other"],
}  # fmt: skip
Studio = tuple[Session, dict[str, FakePipeline]]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    for name in ("fake", "other"):
        add_model(tmp_path / "models", name)
    pipelines = {name: FakePipeline(name, step_s=0) for name in ("fake", "other")}
    load = lambda name: cast(VideoPipeline, pipelines[name])  # noqa: E731
    session = Session(tmp_path / "models", "cpu", load=load, describe=load)
    with small_clips():
        yield session, pipelines
    session.close()


def cells(session: Session, **changed: Any) -> tuple[Cell, ...]:
    request = make_request(**SHARED, block="1x1x16", num_frames=17)
    return cells_of(session, Varied(**{**USUAL, **changed}), request)


def finish(session: Session, made_of: tuple[Cell, ...]) -> JobView:
    job = session.jobs.submit(partial(run, session, made_of), made_of[0].request)
    assert job.finished.wait(100)
    view = session.jobs.view(job.id)
    assert view is not None
    return view


def test_each_cell_differs_in_what_varies_alone(studio: Studio) -> None:
    session, _ = studio
    assert [cell.caption for cell in cells(session)] == ["seed 7", "seed 8", "seed 9"]
    found = {
        vary: [cell.caption for cell in cells(session, vary=vary)]
        for vary in ("block", "temperature", "model")
    }
    assert found == {
        "block": ["row 1x1x16", "frame 1x16x16"],
        "temperature": ["temperature 0.5", "temperature 1"],
        "model": ["model fake", "model other"],
    }
    shapes = [cell.request.sampling.block_shape for cell in cells(session, vary="block")]
    assert shapes == [(1, 1, 16), (1, 16, 16)]
    assert {cell.request.sampling.seed for cell in cells(session, vary="block")} == {7}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"num_seeds": 1}, "2 to 16 clips, not 1"),
        ({"num_seeds": 17}, "2 to 16 clips, not 17"),
        ({"num_seeds": None}, "2 to 16 clips, not 0"),
        ({"vary": "block", "blocks": []}, "2 to 16 clips, not 0"),
        ({"vary": "temperature", "temperatures": "0.5"}, "2 to 16 clips, not 1"),
        ({"vary": "temperature", "temperatures": "hot, cold"}, "such as 0.4, 0.7, 1"),
        ({"vary": "temperature", "temperatures": "1, 11"}, "between 0 and 10"),
        ({"vary": "temperature", "temperatures": "1, nan"}, "between 0 and 10"),
        ({"vary": "model", "models": ["fake", "gone"]}, "no model 'gone'"),
        ({"vary": "block", "blocks": ["1x1x16", "9x9x9"]}, "has no blocks of 9x9x9"),
        ({"vary": "weather"}, "varies one of"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(
    studio: Studio, changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        cells(studio[0], **changed)


def test_an_action_that_one_of_the_models_lacks_is_refused_at_once(studio: Studio) -> None:
    session, pipelines = studio
    pipelines["other"].actions = ("pan-left",)
    with pytest.raises(ValueError, match="Model other has no action 'door-open'"):
        cells(session, vary="model")


def test_numbers_are_read_with_commas_or_spaces_and_each_once() -> None:
    assert read_numbers(" 0.4, 0.7;1  1.0") == [0.4, 0.7, 1]
    assert read_numbers("") == []


@pytest.mark.parametrize(
    ("vary", "batches"), [("seed", [3]), ("temperature", [1, 1]), ("block", [1, 1])]
)
def test_seeds_are_made_at_once_and_the_rest_one_after_another(
    studio: Studio, vary: str, batches: list[int]
) -> None:
    session, pipelines = studio
    found = finish(session, cells(session, vary=vary))
    assert found.state is JobState.DONE, found.error
    assert pipelines["fake"].batches == batches
    assert found.result.is_complete
    assert found.progress[1].endswith("Writing the files...")
    details = [cell.details for cell in found.result.cells]
    assert all((" s" in text.replace(" steps", "")) == (vary != "seed") for text in details)


def test_every_model_makes_its_own_cell(studio: Studio) -> None:
    session, pipelines = studio
    found = finish(session, cells(session, vary="model"))
    assert [pipelines[name].batches for name in ("fake", "other")] == [[1], [1]]
    assert "weights fake (ffffffff)" in found.result.measured
    assert "weights other (ffffffff)" in found.result.measured


def test_a_cell_is_a_clip_of_the_gallery_equal_to_the_one_made_alone(studio: Studio) -> None:
    session, _ = studio
    made_of = cells(session)
    result: GridResult = finish(session, made_of).result
    assert {cell.clip_id for cell in result.cells} == {c.id for c in session.library.clips()}
    views = [session.jobs.view(cell.clip_id) for cell in result.cells]
    assert not any(view.is_earlier for view in views if view), "they are runs of this session"
    for cell, made in zip(made_of, result.cells, strict=True):
        request = cell.request
        alone = session.jobs.submit(partial(make_clip, session, request), request)
        assert alone.finished.wait(100)
        session.jobs.forget(made.clip_id)  # opened from the library, as after a new start
        opened = find_clip(session, made.clip_id)
        assert opened is not None
        kept, expected = opened.result, alone.result
        assert np.array_equal(kept.making.tokens_thw, expected.making.tokens_thw)
        assert kept.strip.read_bytes() == expected.strip.read_bytes()
        assert kept.manifest == expected.manifest
        assert "in one batch with 2 other clips" in kept.measured
        assert "batch" not in expected.measured


def test_a_pause_counts_in_no_clip_of_a_grid(studio: Studio) -> None:
    session, pipelines = studio
    begin = pipelines["fake"].start
    paused_s = 30.0

    def start(*requests: Any, stop: Any = None) -> Any:
        if not pipelines["fake"].batches:
            job.paused_s += paused_s  # players had turns during the first clip
        return begin(*requests, stop=stop)

    pipelines["fake"].start = start  # type: ignore[method-assign]
    ready = threading.Event()

    def work(job: Job) -> GridResult:
        assert ready.wait(30)
        return run(session, cells(session, vary="block"), job)

    job = session.jobs.submit(work)
    ready.set()
    assert job.finished.wait(100)
    second = session.jobs.view(job.result.cells[1].clip_id)
    assert second is not None
    assert second.result.seconds > 0
    assert min(second.result.making.step_s) > 0


def test_a_stop_keeps_the_finished_clips(studio: Studio) -> None:
    session, pipelines = studio
    made_of = cells(session, vary="temperature", temperatures="0.5, 1, 1.5")
    second = pipelines["fake"]
    begin = second.start

    def start(*requests: Any, stop: Any = None) -> Any:
        if second.batches:
            stop.set()
        return begin(*requests, stop=stop)

    second.start = start  # type: ignore[method-assign]
    found = finish(session, made_of)
    assert found.state is JobState.STOPPED
    assert [cell.caption for cell in found.result.cells] == ["temperature 0.5"]
    assert "Stopped: the clips made so far are kept." in view.status(found)
    assert len(session.library.clips()) == 1


def test_the_page_says_when_the_gallery_cannot_keep_the_clips(
    studio: Studio, tmp_path: Path
) -> None:
    session, _ = studio
    (tmp_path / "file").write_text("in the way")
    session.library.folder = tmp_path / "file"
    found = finish(session, cells(session))
    assert len(found.result.cells) == 3
    assert "The gallery cannot keep every clip: " in view.status(found)


def test_a_stop_before_the_first_clip_leaves_no_grid(studio: Studio) -> None:
    session, pipelines = studio
    pipelines["fake"].step_s = 0.05
    job = session.jobs.submit(partial(run, session, cells(session)), None)
    while job.progress is None:
        job.finished.wait(0.01)
    text = view.status(session.jobs.view(job.id))
    assert "Clips 1 to 3 of 3: seed 7, seed 8, seed 9. Step " in text
    session.jobs.stop(job.id)
    assert job.finished.wait(100)
    assert job.result is None
    assert "no grid" in view.status(session.jobs.view(job.id))
    assert session.library.clips() == []


def test_the_page_follows_a_grid_to_its_clips(studio: Studio) -> None:
    session, _ = studio
    with gr.Blocks() as blocks:
        model = gr.Dropdown(["fake"], value="fake")
        followers = [Follower(session.jobs, name, 0.5) for name in ("race", "grid")]
        grid = CompareTab(session, blocks, model, *followers).grid
    begun = grid.begin(*USUAL.values(), "1x1x16", *SHARED.values())
    job = session.jobs.get(begun[grid.follower.job_id])
    assert job is not None
    assert job.finished.wait(100)
    told = grid.follower.poll(job.id, ("", 0))
    assert [cell["caption"] for cell in told[grid.page.cells]["cells"]] == [
        "seed 7", "seed 8", "seed 9",
    ]  # fmt: skip
    assert "3 clips in" in told[grid.page.measured]
    assert told[grid.page.box].open
    with pytest.raises(gr.Error, match="2 to 16 clips"):
        grid.begin("seed", 1, [], "", [], "1x1x16", *SHARED.values())


def test_only_the_values_of_what_varies_are_shown(studio: Studio) -> None:
    session, _ = studio
    with gr.Blocks() as blocks:
        model = gr.Dropdown(["fake"], value="fake")
        followers = [Follower(session.jobs, name, 0.5) for name in ("race", "grid")]
        grid = CompareTab(session, blocks, model, *followers).grid
    shown = grid.choose("temperature")
    assert [part.visible for part in shown.values()] == [False, False, True, False]
    blocks = grid.page.blocks
    assert len(grid.offer("fake", "frame", [], [])[blocks].value) == 6
    chosen = ["1x1x1", "1x1x16"]
    assert "value" not in grid.offer("fake", "frame", chosen, [])[blocks].constructor_args
    chosen.append("9x9x9")
    assert grid.offer("fake", "frame", chosen, [])[blocks].value == ["1x1x1", "1x1x16"]
    assert len(grid.offer("fake", "frame", ["1x1x1"], [])[blocks].value) == 6, "one makes no grid"


def test_a_reloaded_page_has_what_varied_in_its_grid(studio: Studio) -> None:
    session, _ = studio
    with gr.Blocks() as blocks:
        model = gr.Dropdown(["fake"], value="fake")
        followers = [Follower(session.jobs, name, 0.5) for name in ("race", "grid")]
        tab = CompareTab(session, blocks, model, *followers)
    grid, chosen = tab.grid, {**USUAL, "vary": "block", "models": ["other"], "num_seeds": 5}
    begun = grid.begin(*chosen.values(), "1x1x16", *SHARED.values())
    job_id = begun[grid.follower.job_id]
    found = tab.come_back("fake", "", ("", 0), job_id, True)
    assert set(found) <= set(tab.found_again)
    parts = zip(("num_seeds", "blocks", "temperatures", "models"), grid.page.values, strict=True)
    again = {name: found[part].value for name, part in parts}
    assert {"vary": found[grid.page.vary], **again} == chosen
    assert [found[part].visible for part in grid.page.values] == [False, True, False, False]
    assert grid.page.vary not in tab.come_back("fake", "", ("", 0), "gone", True)

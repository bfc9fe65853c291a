"""Blocks without a browser: the plan is the engine's own, refusals, charts, the measurement."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app.how import measure, plan
from app.how.charts import paper_chart, paper_values, speeds_chart, stored_chart
from app.how.shapes import Shapes
from app.how.stored import stored
from app.jobs import JobState
from app.parts.follow import Follower
from app.session import Session
from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.config.presets import RANDOM_WEIGHTS
from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES, Size3
from tests.support.engine import FakePipeline, fake_session

GRID = (5, 16, 16)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[Session, FakePipeline]]:
    session, pipeline = fake_session(tmp_path / "models", step_s=0.001)
    yield session, pipeline
    session.close()


def build(session: Session) -> Shapes:
    with gr.Blocks() as blocks:
        model = gr.Dropdown(["fake"], value="fake")
        with gr.Tab("Blocks") as tab:
            return Shapes(session, blocks, model, tab, Follower(session.jobs, "test", 0.5))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes]:
    session, _ = fake_session(tmp_path_factory.mktemp("tab") / "models", step_s=0.001)
    yield build(session)
    session.close()


@pytest.mark.parametrize("shape", plan.SHAPES)
def test_the_page_draws_the_engines_own_mask(shape: Size3) -> None:
    layout = SequenceLayout("hybrid", BlockLayout(GRID, shape), prefix_len=1, first_video_id=0)
    segment = np.array(plan.plan(shape, False)["segment"])
    np.testing.assert_array_equal(segment[:, None] >= segment[None], layout.mask_LL.numpy())


@pytest.mark.parametrize("is_given", [False, True])
@pytest.mark.parametrize("shape", plan.SHAPES)
def test_steps_make_every_token_once_and_feed_what_is_known(shape: Size3, is_given: bool) -> None:
    drawn = plan.plan(shape, is_given)
    assert f"<dd>{len(drawn['steps']):,}, " in plan.numbers(shape).split("</div>")[2 + is_given]
    known = {place for block in drawn["blocks"][: drawn["known"]] for place in block}
    assert len(known) == 256 * is_given
    for _, start, stop, made in drawn["steps"]:
        fed = [place for place in drawn["place"][start:stop] if place >= 0]
        assert set(fed) <= known
        targets = drawn["target"][stop - made : stop]
        assert not known & set(targets)
        known |= set(targets)
    assert known == set(range(1280))


@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 2, 16), (1, 16, 16), (2, 2, 2)])
def test_a_token_predicts_its_counterpart_in_the_next_block(shape: Size3) -> None:
    drawn = plan.plan(shape, True)
    blocks = np.array(drawn["blocks"])
    _, _, stop, made = drawn["steps"][-1]
    assert drawn["place"][stop - made : stop] == blocks[-2].tolist()
    assert drawn["target"][stop - made : stop] == blocks[-1].tolist()


@pytest.mark.parametrize(
    ("shape", "steps", "given"),
    [((1, 1, 1), 1280, 1024), ((1, 1, 16), 95, 64), ((1, 16, 16), 260, 4), ((2, 2, 2), 167, 128)],
)
def test_numbers(shape: Size3, steps: int, given: int) -> None:
    *_, from_action, from_frame, _ = plan.numbers(shape).split("</div>")
    assert f"<dd>{steps:,}, " in from_action
    assert f"<dd>{given:,}, " in from_frame


def test_all_of_the_papers_shapes_can_be_chosen() -> None:
    assert set(plan.SHAPES) == {*FIGURE6_SHAPES, *TABLE3_SHAPES}
    assert ("row 1x1x16: 95 steps", "1x1x16") in plan.choices(is_given=False)
    assert ("row 1x1x16: 64 steps", "1x1x16") in plan.choices(is_given=True)


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 1, 1), (2, 8, 16), (1, 16, 1)])
def test_other_shapes_that_tile_can_be_drawn(tab: Shapes, shape: Size3) -> None:
    choice, plan, numbers, refused = tab.cut(*shape, "action")
    assert choice.value is None
    assert plan["shape"] == list(shape)
    assert "tokens in a block" in numbers
    assert refused == ""


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 3, 16), "does not tile the 5x16x16 grid; these do: 1x1x1, 1x1x8, 1x1x16"),
        ((5, 1, 1), "does not tile"),
        ((4, 16, 16), "does not tile"),
        ((None, 1, 1), "three whole numbers"),
        ((0, 1, 1), "whole numbers"),
        ((1.5, 1, 1), "whole numbers"),
    ],
)
def test_a_shape_that_does_not_tile_is_refused_and_the_picture_stays(
    tab: Shapes, shape: tuple[Any, Any, Any], sentence: str
) -> None:
    *picture, refused = tab.cut(*shape, "action")
    assert sentence in refused
    assert 'role="alert"' in refused
    assert picture == [gr.skip()] * 3


def test_numbers_choose_a_shape_of_the_paper(tab: Shapes) -> None:
    choice, plan, _, refused = tab.cut(2, 1, 8, "frame")
    assert (choice.value, plan["known"], refused) == ("2x1x8", 16, "")
    assert ("half row of 2 frames 2x1x8: 64 steps", "2x1x8") in choice.choices


def test_only_printed_figures_of_the_paper_are_drawn() -> None:
    values = paper_values()
    assert values[(1, 1, 16)] == {
        "fps": (8.89, "table 1, 20 epochs"), "fvd": (25.5, "figures 6 and 7"),
    }  # fmt: skip
    assert values[(1, 2, 16)] == {}
    chart = paper_chart()
    assert all(trace.name.startswith("paper: ") for trace in chart.data)
    assert dict(zip(chart.data[0].x, chart.data[0].y, strict=True)) == {
        "1x1x1": 0.80, "1x1x16": 8.89, "1x16x16": 17.14,
    }  # fmt: skip


def test_measuring_times_every_shape(studio: tuple[Session, FakePipeline]) -> None:
    session, _ = studio
    job = session.jobs.submit(partial(measure.run, session, "fake"))
    assert job.finished.wait(100)
    speeds = job.result.speeds
    assert [speed.shape for speed in speeds] == list(FIGURE6_SHAPES)
    for speed in speeds:
        assert speed.timed_steps >= 6
        assert speed.step_ms >= 1
        tokens = int(np.prod(speed.shape))
        assert np.isclose(speed.tokens_per_s, tokens / speed.step_ms * 1e3)
    assert "weights fake" in job.result.measured
    (bars,) = speeds_chart(speeds).data
    assert bars.name == "ours: tokens per second"
    assert len(bars.x) == 6


def test_random_weights_are_called_that(studio: tuple[Session, FakePipeline]) -> None:
    session, pipeline = studio
    pipeline.identity = {"weights": RANDOM_WEIGHTS}
    job = session.jobs.submit(partial(measure.run, session, "fake"))
    assert job.finished.wait(60)
    assert f"weights fake ({RANDOM_WEIGHTS}) and tokenizer" in job.result.measured


def test_a_stopped_measurement_shows_nothing(studio: tuple[Session, FakePipeline]) -> None:
    session, pipeline = studio
    pipeline.step_s = 0.02
    job = session.jobs.submit(partial(measure.run, session, "fake"))
    while job.progress is None:
        assert not job.finished.wait(0.005)
    session.jobs.stop(job.id)
    assert job.finished.wait(60)
    assert (job.state, job.result) == (JobState.STOPPED, None)
    assert "so there is no result" in job.error


def test_the_page_follows_a_measurement(tab: Shapes) -> None:
    begun = tab.measure("fake")
    job = tab.session.jobs.get(begun[tab.follower.job_id])
    assert job is not None
    assert job.finished.wait(100)
    told = tab.follower.poll(job.id, ("", 0))
    assert told[tab.plot].visible
    assert "Done." in told[tab.status]
    seen = told[tab.follower.seen]
    assert set(tab.follower.poll(job.id, seen)) == {tab.follower.seen, tab.follower.catch_up}
    with pytest.raises(gr.Error, match="no model"):
        tab.measure("none")


def write_results(folder: Path) -> None:
    head = {"title": "Speed", "device": "some CPU", "weights": "named", "date": "2026-01-02"}
    head["command"] = "python -m nbp_core bench"
    clip = {"model": "tiny", "weights": "0123abcd", "block": "1x1x16", "frames_s": 5.5}
    step = {
        "model": "tiny", "weights": "0123abcd", "block": "1x1x16", "protocol": "k600",
        "num_steps": 48, "step_ms": 3.0, "total_s": 0.1,
    }  # fmt: skip
    clips = [clip, {**clip, "block": "1x1x1", "frames_s": 1.0}, {**clip, "block": "row"}]
    bench = {**head, "kind": "bench", "rows": [step], "clips": clips}
    losses = [
        {"model": "ntp", "block": "1x1x1", "loss": 5.0, "fvd": None},
        {"model": "nbp", "block": "1x1x16", "loss": 5.5},
    ]
    (folder / "bench.json").write_text(json.dumps(bench))
    (folder / "loss.json").write_text(json.dumps({**head, "kind": "blocks", "rows": losses}))
    (folder / "torn.json").write_text('{"kind": "bench"')


def test_stored_figures_are_those_of_bench_and_of_experiments(tmp_path: Path) -> None:
    write_results(tmp_path)
    tiny, ntp, nbp = stored(tmp_path)
    assert tiny.by_shape == {"frames_s": {(1, 1, 16): 5.5, (1, 1, 1): 1.0}}
    assert (tiny.weights, ntp.weights) == ("0123abcd", "named")
    assert ntp.by_shape == {"loss": {(1, 1, 1): 5.0}}
    assert nbp.by_shape == {"loss": {(1, 1, 16): 5.5}}
    (speed,) = stored_chart([tiny], "frames_s").data
    assert speed.name == "ours: tiny on some CPU, 2026-01-02"
    assert stored(tmp_path / "nowhere") == []
    chart = stored_chart([tiny, ntp, nbp], "loss")
    names = ["ours: ntp, Speed, 2026-01-02", "ours: nbp, Speed, 2026-01-02"]
    assert [bars.name for bars in chart.data] == names, "experiments are told apart by their titles"
    assert chart.layout.height > stored_chart([tiny], "frames_s").layout.height


def test_stored_figures_are_read_when_the_tab_is_opened(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    session, _ = fake_session(tmp_path / "models", results=results)
    tab = build(session)
    told = tab.show_stored()
    assert not any(told[plot].visible for plot in tab.stored.values())
    assert "No measured figures" in told[tab.stored_words]
    write_results(results)
    told = tab.show_stored()
    seen = {key: told[plot].visible for key, plot in tab.stored.items()}
    assert seen == {"frames_s": True, "fvd": False, "loss": True}
    assert "weights named" in told[tab.stored_words]
    assert "`." not in told[tab.stored_words], "a full stop alone on a line"
    session.close()

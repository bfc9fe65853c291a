"""Compare without a browser: the job, what the page shows of it, the named endpoint's function."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app.clips.request import make_request
from app.clips.run import run as make_clip
from app.compare import view
from app.compare.charts import steps_chart, tokens_chart
from app.compare.grid.form import Varied, cells_of
from app.compare.page import usual_pair
from app.compare.pair import NOTHING, Pair, differences
from app.compare.run import RaceResult, new_race, paper_words, run, runner_name
from app.compare.tab import CompareTab
from app.jobs import JobState, JobView
from app.library import KeptClip
from app.parts.follow import Follower
from app.session import Session
from nbp_core.config.shapes import Size3
from nbp_core.generation.race import Race
from nbp_core.media.video import read_comment, read_video, write_video
from tests.support.disk import refused_while_older
from tests.support.engine import (
    Continues,
    FakePipeline,
    answer_of,
    fake_session,
    session_of,
    small_clips,
)

VALUES: dict[str, Any] = {
    "model": "fake", "start": "action", "action": "door-open", "picture": None, "clip": None,
    "temperature": 1.0, "top_k": 2000, "top_p": 0.9, "guidance": 1.0, "seed": 7, "crop": 0.5,
}  # fmt: skip
FILES = ("picture", "clip")
SHAPES: tuple[Size3, Size3] = ((1, 1, 16), (1, 4, 16))
Studio = tuple[Session, FakePipeline]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    session, pipeline = fake_session(tmp_path / "models", step_s=0.001)
    yield session, pipeline
    session.close()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaceResult]:
    session, _ = fake_session(tmp_path_factory.mktemp("race") / "models", step_s=0.002)
    yield finish(session).result
    session.close()


def submit(session: Session, shapes: tuple[Size3, Size3] = SHAPES) -> Any:
    request = make_request(**VALUES, block="1x1x16", num_frames=17)
    race = new_race(session, request, shapes)
    return session.jobs.submit(partial(run, session, race), race)


def finish(session: Session) -> JobView:
    job = submit(session)
    assert job.finished.wait(100)
    view = session.jobs.view(job.id)
    assert view is not None
    assert view.state is JobState.DONE, view.error
    return view


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CompareTab]:
    session, _ = fake_session(tmp_path_factory.mktemp("tab") / "models", step_s=0.001)
    with gr.Blocks() as blocks:
        tab = CompareTab(
            session,
            blocks,
            gr.Dropdown(["fake"], value="fake"),
            Follower(session.jobs, "test", 0.5),
            Follower(session.jobs, "grid", 0.5),
        )
    yield tab
    session.close()


def test_both_clips_carry_their_settings(outcome: RaceResult) -> None:
    for clip, block in zip(outcome.clips, ("1x1x16", "1x4x16"), strict=True):
        frames, fps = read_video(clip)
        assert (frames.shape, fps) == ((17, 512, 512, 3), 8)
        assert json.loads(read_comment(clip) or "")["block_shape"] == block
    report = json.loads(outcome.figures.read_text())
    assert report["speed_up"]["steps"] == 4
    assert "on CPU" in report["measured"]
    assert "weights fake (ffffffff) and tokenizer fake-tokens" in report["measured"]


def test_a_race_is_not_lost_where_older_files_fill_the_disk(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = studio
    older = finish(session).result
    write = refused_while_older(session, write_video)
    monkeypatch.setattr("app.compare.run.write_video", write)
    assert all(clip.is_file() for clip in finish(session).result.clips)
    assert not older.figures.is_file()


def test_the_replay_has_a_time_for_everything(outcome: RaceResult) -> None:
    value = view.replay(outcome)
    assert value["grid"] == [5, 16, 16]
    json.dumps(value)
    for runner, steps in zip(value["runners"], (80, 20), strict=True):
        assert len(runner["step_s"]) == len(runner["places"]) == steps
        assert len(runner["frame_s"]) == 17
        assert runner["frame_s"][-1] == runner["step_s"][-1]
        assert sorted(chain(*runner["places"])) == list(range(1280))
        assert runner["known"] == 0


def test_the_headline_is_a_sum_that_holds(outcome: RaceResult) -> None:
    race, text = outcome.race, view.headline(outcome)
    ratio = race.speed_up()
    assert ratio["steps"] / race.step_cost() == pytest.approx(ratio["sampling"])
    assert "4.0x fewer steps" in text
    assert f"{race.step_cost():.1f}x the time per step" in text
    assert "median of 3 races" in text
    least, most = race.spread()
    assert least <= ratio["end_to_end"] <= most
    assert "real time (8 frames/s)" in text
    turned = view.headline(replace(outcome, race=Race(runners=race.runners[::-1])))
    assert "4.0x more steps" in turned
    assert "races" not in turned


def test_the_table_has_both_and_their_ratio(outcome: RaceResult) -> None:
    table = view.figures_table(outcome)
    assert "<td>80</td><td>20</td><td>4.0x</td>" in table
    assert "4 rows 1x4x16, next block" in table


def test_only_the_token_is_called_next_token() -> None:
    assert runner_name((1, 1, 1)) == "token 1x1x1, next token"
    assert runner_name((1, 1, 16)) == "row 1x1x16, next block"


def test_lines_reach_all_tokens_and_bars_are_as_wide_as_their_steps(outcome: RaceResult) -> None:
    lines = tokens_chart(outcome.race).data
    assert [line.y[-1] for line in lines] == [1280, 1280]
    assert lines[0].x[-1] == outcome.race.runners[0].end_to_end_s
    assert lines[0].line.dash != lines[1].line.dash
    bars = steps_chart(outcome.race).data
    assert [set(bar.width) for bar in bars] == [{16}, {64}]
    assert np.isclose(bars[1].x[0], 32)


def test_the_papers_figure_is_marked_as_the_papers() -> None:
    words = paper_words()
    assert "not measured here" in words
    assert "11 times" in words
    assert "A100" in words


def test_progress_says_who_runs(studio: Studio) -> None:
    session, pipeline = studio
    pipeline.step_s = 0.01
    assert "Ready" in view.status(None)
    job = submit(session)
    while job.progress is None or ": step 3 " not in job.progress[1]:
        assert not job.finished.wait(0.005)
    text = view.status(session.jobs.view(job.id))
    assert "row 1x1x16, next block (baseline): step" in text
    session.jobs.stop(job.id)
    assert job.finished.wait(60)
    assert job.state is JobState.STOPPED
    assert "Race stopped. Both runs must finish to be compared" in view.status(
        session.jobs.view(job.id)
    )


def test_the_endpoint_gives_files_and_figures(tab: CompareTab) -> None:
    call = tab.compare("1x1x16", "1x4x16", *VALUES.values())
    first, second, figures = answer_of(call)
    assert Path(first).is_file()
    assert Path(second).is_file()
    assert [runner["steps"] for runner in figures["runners"]] == [80, 20]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"second": "1x1x1"},
            r"Baseline and challenger both .* 1x1x1: choose two different ones\.",
        ),
        ({"second": "1x3x16"}, r"Model fake has no blocks of 1x3x16\."),
        ({"action": "jump"}, r"Model fake has no action 'jump'\."),
        ({"second": "row"}, "three numbers"),
        ({"second": 5}, "second must be text, not 5"),
        ({"first": None}, "first must be text, not null"),
        ({"start": "frame"}, "Choose a picture"),
        ({"top_p": 2.0}, "top_p"),
        ({"model": "none"}, "no model"),
    ],
)
def test_the_endpoint_refuses_in_one_sentence(
    tab: CompareTab, changes: dict[str, Any], sentence: str
) -> None:
    values = {"first": "1x1x1", "second": "1x4x16", **VALUES, **changes}
    with pytest.raises(gr.Error, match=sentence):
        answer_of(tab.compare(*values.values()))


def test_a_clip_that_a_model_cannot_begin_is_refused_in_words_of_the_page(tmp_path: Path) -> None:
    """At once, for a race and for a grid, and not with the engine's own sentence."""
    session = session_of(tmp_path / "models", fake=Continues("fake"))
    request = make_request(**{**VALUES, "action": ""}, block="1x1x16", num_frames=17)
    sentence = (
        "^Model fake cannot make 17 frames from an action in blocks of 1x1x16. Choose another"
        r" start, block or model\.$"
    )
    with pytest.raises(ValueError, match=sentence):
        new_race(session, request, SHAPES)
    seeds = Varied(vary="seed", num_seeds=3, blocks=(), temperatures="", models=())
    with pytest.raises(ValueError, match=sentence):
        cells_of(session, seeds, request)
    session.close()


@pytest.mark.parametrize("changes", [{"action": ""}, {"guidance": 2.0}])
def test_a_model_with_class_prompts_is_given_one_at_once(
    studio: Studio, changes: dict[str, Any]
) -> None:
    session, pipeline = studio
    pipeline.needs_action = True
    request = make_request(**{**VALUES, **changes}, block="1x1x16", num_frames=17)
    seeds = Varied(vary="seed", num_seeds=3, blocks=(), temperatures="", models=())
    sentence = r"^Model fake needs an action, and a guidance of 1\.$"
    with pytest.raises(ValueError, match=sentence):
        new_race(session, request, SHAPES)
    with pytest.raises(ValueError, match=sentence):
        cells_of(session, seeds, request)


def test_a_model_of_one_block_shape_cannot_race(studio: Studio) -> None:
    session, pipeline = studio
    pipeline.block_shapes = ((1, 1, 16),)
    with gr.Blocks() as blocks:
        tab = CompareTab(
            session,
            blocks,
            gr.Dropdown(["fake"], value="fake"),
            Follower(session.jobs, "test", 0.5),
            Follower(session.jobs, "grid", 0.5),
        )
    with pytest.raises(gr.Error, match="supports blocks of 1x1x16 only"):
        answer_of(tab.compare("1x1x16", "1x1x16", *VALUES.values()))
    note = tab.change_choices("fake", "action", "zoom-in", False, "1x1x16", "1x1x16")[0]
    assert "A fair race needs two block shapes of the same weights" in note
    assert tab.page.note.value == note


def test_the_page_follows_a_race_to_its_result(tab: CompareTab) -> None:
    page = tab.page
    begun = tab.begin("1x1x16", "1x4x16", *VALUES.values())
    job_id = begun[page.follower.job_id]
    job = tab.session.jobs.get(job_id)
    assert job is not None
    assert job.finished.wait(100)
    told = page.follower.poll(job_id, ("", 0))
    assert told[page.result].visible
    assert "faster" in told[page.headline] or "slower" in told[page.headline]
    seen = told[page.follower.seen]
    assert set(page.follower.poll(job_id, seen)) == {page.follower.seen, page.follower.catch_up}
    assert page.follower.catch_up in page.follower.poll("gone", ("", 0))


def test_a_reloaded_page_has_the_settings_of_its_race(tmp_path: Path) -> None:
    pipelines = {"fake": FakePipeline("fake", step_s=0), "other": FakePipeline("other", step_s=0)}
    pipelines["other"].block_shapes = ((1, 1, 16), (1, 16, 16))
    session = session_of(tmp_path / "models", **pipelines)
    with gr.Blocks() as blocks:
        followers = [Follower(session.jobs, name, 0.5) for name in ("race", "grid")]
        tab = CompareTab(session, blocks, gr.Dropdown(["fake", "other"]), *followers)
    page, chosen = tab.page, {**VALUES, "action": "", "top_k": 300, "seed": 99, "crop": 0.25}
    job_id = tab.begin("1x1x16", "1x4x16", *chosen.values())[page.follower.job_id]

    def settings(updates: dict[Any, Any]) -> dict[str, Any]:
        names = (*chosen, "first", "second")
        found = {name: updates[getattr(page, name)] for name in names if name not in FILES}
        return {name: getattr(value, "value", value) for name, value in found.items()}

    shown = tab.come_back("other", job_id, ("", 0), "", True)
    expected = {name: value for name, value in chosen.items() if name not in FILES}
    assert settings(shown) == {**expected, "first": "1x1x16", "second": "1x4x16"}
    assert set(shown) <= set(tab.found_again)
    # Where another tab is open, the page keeps its model, and the settings suit it.
    behind = settings(tab.come_back("other", job_id, ("", 0), "", False))
    assert behind == {**expected, "model": "other", "first": "1x1x16", "second": "1x16x16"}
    assert page.seed not in tab.come_back("other", "gone", ("", 0), "", True)
    session.close()


UNTOUCHED = "the visitor may have chosen another in the meantime"


def test_choices_keep_what_fits(tab: CompareTab) -> None:
    note, first, second, action = tab.change_choices(
        "fake", "frame", "zoom-in", False, "1x1x8", "9x9x9"
    )
    assert second.value == "1x16x16"
    assert not any("value" in kept.constructor_args for kept in (first, action)), UNTOUCHED
    assert note == ""


@pytest.mark.parametrize(
    ("offered", "chosen", "pair"),
    [
        (["1x1x16", "1x1x1"], ("1x1x1", "1x4x16"), ("1x1x1", "1x1x16")),
        (["1x1x16", "1x4x16"], ("1x1x1", "1x1x16"), ("1x1x16", "1x4x16")),
        (["1x1x16", "1x4x16"], ("1x4x16", "1x4x16"), ("1x1x16", "1x4x16")),
        (["1x1x16"], ("1x1x1", "1x1x16"), ("1x1x16", "1x1x16")),
    ],
)
def test_two_different_blocks_are_offered_where_there_are_two(
    offered: list[str], chosen: tuple[str, str], pair: tuple[str, str]
) -> None:
    assert usual_pair(offered, *chosen) == pair


def test_two_kept_clips_are_shown_with_the_settings_that_differ(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models", step_s=0)
    with gr.Blocks():
        pair = Pair(session)
    assert pair.show(None, None)[pair.settings] == NOTHING
    ids = []
    with small_clips():
        for seed, block in ((7, "1x1x16"), (8, "1x4x16"), (8, "1x4x16")):
            request = make_request(**{**VALUES, "seed": seed}, block=block, num_frames=17)
            job = session.jobs.submit(partial(make_clip, session, request), request)
            assert job.finished.wait(100)
            ids.append(job.id)
    first = pair.show(None, None)
    assert (first[pair.left].value, first[pair.right].value) == (ids[2], ids[1])
    assert first[pair.settings] == "<p>Both clips have the same settings.</p>"
    chosen = pair.show(ids[0], ids[1])
    menus = (chosen[pair.left], chosen[pair.right])
    assert not any("value" in menu.constructor_args for menu in menus), UNTOUCHED
    rows = chosen[pair.settings].split("<tr>")[2:]
    assert [row.split("</th>")[0].partition(">")[2] for row in rows] == ["block", "seed"]
    shown = chosen[pair.view]["clips"]
    assert all(clip["frames"].startswith("data:image/png;base64,") for clip in shown)
    assert shown[0]["frames"] != shown[1]["frames"]
    assert pair.show("gone", ids[1])[pair.left].value == ids[2]
    # Coming back to the tab, what is shown stays, unless a clip of it was deleted.
    again = pair.refresh(ids[0], ids[1])
    assert set(again) == {pair.left, pair.right}
    assert [value for _, value in again[pair.left].choices] == list(reversed(ids))
    assert pair.refresh("gone", ids[1])[pair.left].value == ids[2]
    assert pair.view in pair.refresh(None, None)
    clip = session.library.clips()[0]

    def other(**settings: Any) -> KeptClip:
        return replace(clip, manifest={**clip.manifest, **settings})

    one, two = (other(context={"num_frames": 1, "sha256": digit * 64}) for digit in ("0", "1"))
    assert "<td>an action</td><td>a first frame, fingerprint 00000000</td>" in differences(
        clip, one
    )
    assert "fingerprint 00000000</td><td>a first frame, fingerprint 1111" in differences(one, two)
    timeline = other(action=None, actions="door-open*4 door-close*8")
    assert "<td>door-open*4 door-close*8</td>" in differences(clip, timeline)
    assert '<th scope="row">weights</th>' in differences(clip, other(sha256="2" * 64))
    session.close()

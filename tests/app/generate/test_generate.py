"""A run of Generate: from the page's values to files, and what the page shows meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.clips.progress import NO_TOKEN, Progress, video_grid
from app.clips.request import make_request, read_start
from app.clips.run import Outcome, run
from app.generate import live
from app.jobs import Job, JobState
from app.parts import controls
from app.parts.charts import timing_chart
from app.parts.pictures import token_colours, walls_path
from app.parts.status import status
from app.session import Session
from nbp_core.media.video import read_comment, read_video, write_video
from tests.support.engine import ACTIONS, VALUES, FakePipeline, fake_session
from tests.support.models import save_pipeline


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[Session, FakePipeline]]:
    session, pipeline = fake_session(tmp_path / "models", step_s=0)
    yield session, pipeline
    session.close()


def finish(session: Session, **values: Any) -> Job:
    request = make_request(**{**VALUES, **values})
    job = session.jobs.submit(partial(run, session, request), request)
    assert job.finished.wait(60)
    return job


def picture_file(folder: Path) -> str:
    path = folder / "picture.png"
    Image.new("RGB", (200, 150), "teal").save(path)
    return str(path)


def clip_file(folder: Path, num_frames: int) -> str:
    path = folder / "clip.mp4"
    write_video(path, np.zeros((num_frames, 64, 64, 3), np.uint8))
    return str(path)


def test_a_run_leaves_its_files_and_its_settings(studio: tuple[Session, FakePipeline]) -> None:
    job = finish(studio[0])
    outcome: Outcome = job.result
    assert job.state is JobState.DONE, job.error
    frames, fps = read_video(outcome.clip)
    assert frames.shape == (17, 512, 512, 3)
    assert fps == 8
    assert json.loads(read_comment(outcome.clip) or "") == outcome.manifest
    assert json.loads(outcome.settings.read_text()) == outcome.manifest
    assert outcome.manifest["sampling"]["seed"] == 7
    assert Image.open(outcome.gif).n_frames == 17  # type: ignore[attr-defined]
    assert Image.open(outcome.strip).size == (17 * 128, 128)
    assert Image.open(outcome.last_frame).size == (128, 128)
    assert outcome.last_frames is not None
    assert read_video(outcome.last_frames)[0].shape == (5, 512, 512, 3)
    for path in (outcome.gif, outcome.strip, outcome.last_frame, outcome.last_frames):
        assert json.loads(read_comment(path) or "") == outcome.manifest
    tokens = np.load(outcome.tokens, allow_pickle=False)
    assert np.array_equal(tokens["tokens_thw"], outcome.last.tokens_thw)
    assert tokens["block_shape"].tolist() == [1, 1, 16]
    assert (bool(tokens["generated"]), str(tokens["model"])) == (True, "fake")
    assert json.loads(str(tokens["settings"])) == outcome.manifest
    assert outcome.clip.name == "door-open_fake_1x1x16_seed7.mp4"
    assert "80 steps and 17 new frames" in outcome.measured
    assert "weights fake (ffffffff) and tokenizer fake-tokens" in outcome.measured


def test_progress_ends_with_every_token_known(studio: tuple[Session, FakePipeline]) -> None:
    last: Progress = finish(studio[0], num_frames=33).result.last
    assert (last.step, last.num_steps, last.num_tokens) == (144, 144, 9 * 256)
    assert (last.tokens_thw != NO_TOKEN).all()
    assert last.num_frames == 33


def test_a_picture_is_cut_square_and_counted_as_given(
    studio: tuple[Session, FakePipeline], tmp_path: Path
) -> None:
    job = finish(studio[0], start="frame", picture=picture_file(tmp_path), action="")
    assert job.request.frames_THWC.shape == (1, 128, 128, 3)
    assert job.request.action is None
    assert job.result.new_frames == 16
    assert job.result.clip.name.startswith("picture_")


def test_stop_keeps_the_partial_clip(studio: tuple[Session, FakePipeline]) -> None:
    session, pipeline = studio
    pipeline.step_s = 0.01
    request = make_request(**VALUES)
    job = session.jobs.submit(partial(run, session, request), request)
    while job.progress is None or job.progress.num_frames < 5:
        assert not job.finished.wait(0.01)
    session.jobs.stop(job.id)
    assert job.finished.wait(60)
    view = session.jobs.view(job.id)
    assert job.state is JobState.STOPPED
    assert not job.result.is_complete
    assert 5 <= len(read_video(job.result.clip)[0]) < 17
    assert "frames made so far are kept" in status(view)


def test_stop_before_the_first_frame_leaves_no_clip(studio: tuple[Session, FakePipeline]) -> None:
    session, pipeline = studio
    pipeline.step_s = 0.02
    request = make_request(**VALUES)
    job = session.jobs.submit(partial(run, session, request), request)
    while job.progress is None:
        assert not job.finished.wait(0.005)
    session.jobs.stop(job.id)
    assert job.finished.wait(60)
    assert job.state is JobState.STOPPED
    assert "Stopped before the first frame" in status(session.jobs.view(job.id))


def test_a_broken_engine_is_one_sentence(studio: tuple[Session, FakePipeline]) -> None:
    session, pipeline = studio
    pipeline.fault_at = 3
    assert "/secret" not in finish(session).error
    pipeline.fault_at = None
    assert finish(session).state is JobState.DONE


@pytest.mark.parametrize(
    ("start", "sentence"),
    [("frame", "Choose a picture"), ("clip", "Choose a clip")],
)
def test_a_missing_file_is_asked_for(start: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_start(start, None, None)


def test_a_short_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="This clip has 2 frames; five are needed"):
        read_start("clip", None, clip_file(tmp_path, 2))
    frames = read_start("clip", None, clip_file(tmp_path, 9))
    assert frames is not None
    assert frames.shape == (5, 128, 128, 3)


@pytest.mark.parametrize(
    ("seed", "said"),
    [(-5, "seed must be .* not -5$"), (1.5, "seed must be .* not 1.5$"), (1e20, "not 1e.20$")],
)
def test_a_bad_seed_is_refused_as_it_was_typed(seed: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_request(**{**VALUES, "seed": seed})


def test_an_empty_seed_is_drawn_and_a_bad_setting_refused() -> None:
    assert make_request(**{**VALUES, "seed": None}).sampling.seed >= 0
    with pytest.raises(ValueError, match="top_p"):
        make_request(**{**VALUES, "top_p": 1.5})


def test_actions_over_time_set_the_length() -> None:
    values: dict[str, Any] = {"model": "fake", "start": "action", "action": "door-open"}
    request = make_request(**values, actions=" door-open*2 drawer-close ")
    assert (request.action, request.num_frames) == (None, 13)
    assert request.actions == ("door-open", "door-open", "drawer-close")
    plain = make_request(**values, actions=" ")
    assert (plain.action, plain.actions, plain.num_frames) == ("door-open", (), 17)


def test_choices_say_steps_and_saving(studio: tuple[Session, FakePipeline]) -> None:
    steps = controls.count_steps(studio[0], "fake", "action", 17)
    assert ("row 1x1x16: 80 steps, 16x fewer", "1x1x16") in controls.block_choices(steps)
    assert ("token 1x1x1: 1,280 steps", "1x1x1") in controls.block_choices(steps)
    assert controls.preset_block("Fast", steps) == "1x16x16"
    assert controls.preset_block("Paper", steps) == "1x1x16"
    assert ("row 1x1x16", "1x1x16") in controls.block_choices({})
    assert controls.action_choices(ACTIONS)[1] == ("door open", "door-open")
    assert controls.favourite("frame", ACTIONS) == "pan-left"


def test_a_picture_lowers_the_temperature_unless_somebody_chose_one() -> None:
    assert controls.suited_temperature("frame", 0.7) == 0.4
    assert controls.suited_temperature("action", 0.4) == 0.7
    assert controls.suited_temperature("frame", 0.75) == 0.75


def test_video_grid() -> None:
    assert [video_grid((5, 16, 16), n)[0] for n in (17, 33, 65)] == [5, 9, 17]


def test_equal_tokens_have_equal_colours() -> None:
    colours = token_colours(np.array([[3, 3], [4, NO_TOKEN]]))
    assert (colours[0, 0] == colours[0, 1]).all()
    assert (colours[0, 0] != colours[1, 0]).any()
    assert colours[..., 3].tolist() == [[255, 255], [255, 0]]


def test_walls_follow_the_block_shape() -> None:
    assert walls_path((1, 1, 16), (4, 16), first=False) == "M0 1H16M0 2H16M0 3H16"
    assert walls_path((1, 16, 16), (16, 16), first=False) == ""
    # A block of two latent frames cuts the first one, which stands alone, twice as high.
    assert walls_path((2, 1, 8), (4, 16), first=True) == "M0 2H16M8 0V4"


def test_live_view_marks_the_newest_block(studio: tuple[Session, FakePipeline]) -> None:
    view = live.live_view(finish(studio[0]).result.last)
    assert view["newest"] == "M0 15H16V16H0Z"
    assert view["tokens_text"] == "Tokens of latent frame 5 of 5"
    assert view["frame_text"] == "Frame 17 of 17"


def test_timing_chart_colours_phases_and_draws_the_median() -> None:
    names = [
        trace.name for trace in timing_chart([0.03, 0.01, 0.02], ["prefill", "token", "block"]).data
    ]
    assert names == ["prefill", "token by token", "block by block", "median 20.0 ms"]
    assert not timing_chart([], []).data
    # A phase that comes back now and then has bars no wider than a step.
    phases = ["prefill" if step % 50 == 0 else "block" for step in range(250)]
    prefill, blocks, _ = timing_chart([0.01] * 250, phases).data
    assert prefill.width == blocks.width == 1


def test_the_real_engine_fits(tmp_path: Path) -> None:
    save_pipeline(tmp_path / "models")
    session = Session(tmp_path / "models", "cpu")
    assert session.model_names() == ["tiny"]
    steps = controls.count_steps(session, "tiny", "action", 17)
    assert ("row 1x1x16: 95 steps, 13x fewer", "1x1x16") in controls.block_choices(steps)
    clip = clip_file(tmp_path, 6)
    values = {"model": "tiny", "start": "clip", "clip": clip, "block": "1x16x16", "num_frames": 33}
    outcome = finish(session, **values).result
    assert (outcome.num_frames, outcome.new_frames, outcome.last.num_tokens) == (33, 28, 7 * 256)
    assert (outcome.last.tokens_thw != NO_TOKEN).all()
    assert len(outcome.phases) == len(outcome.timings["per_step_s"]) == outcome.last.num_steps
    session.close()


def test_a_waiting_page_is_told_its_place(studio: tuple[Session, FakePipeline]) -> None:
    session, _ = studio
    gate = threading.Event()
    session.jobs.submit(lambda job: gate.wait(5))
    job = session.jobs.submit(lambda job: None)
    view = session.jobs.view(job.id)
    assert view is not None
    assert "1 run is ahead" in status(view)
    assert "1 run is ahead. This one starts in about 12 s." in status(replace(view, wait_s=12.3))
    gate.set()


def test_a_page_is_told_what_the_first_run_waits_for(
    studio: tuple[Session, FakePipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour here, which is none of the run's own time."""
    session, pipeline = studio
    pipeline.ready.clear()
    clock = time.perf_counter
    hour = 3600.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + hour * pipeline.ready.is_set())
    request = make_request(**VALUES)
    job = session.jobs.submit(partial(run, session, request), request)
    deadline = time.monotonic() + 60
    while "Compiling the engine" not in status(session.jobs.view(job.id)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pipeline.ready.set()
    assert job.finished.wait(60)
    assert job.result.seconds < hour
    assert status(session.jobs.view(job.id)).endswith(">Done.</p>")

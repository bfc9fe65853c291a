"""A play as a clip: its keys pressed again, and a recording in both files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app.attention.clips import from_file
from app.jobs import JobState
from app.parts.follow import Follower
from app.play import saved
from app.play.player import Player
from app.play.protocol import Begin
from app.play.starts import NEW_SCENE, Starts
from app.play.tab import PlayTab
from app.session import Session
from nbp_core.generation.recording import PlayRecording, read_recording
from nbp_core.media.video import read_context, read_video
from tests.support.engine import HUES, FakePipeline, fake_session, small_clips

KEYS = ("left", "up", "up+grip")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made, _ = fake_session(tmp_path / "models")
    with small_clips():
        yield made
    made.close()


BEGIN = Begin(type="begin", start=NEW_SCENE, model="fake", block="1x1x16", temperature=0.6, seed=3)


def played(session: Session, keys: tuple[str, ...] = KEYS) -> PlayRecording:
    player = Player(session.pipeline("fake"), Starts(None).get(NEW_SCENE), BEGIN)
    for number, key in enumerate(keys):
        player.step(number, key, 0.0, 1)
    return player.recording()


def save(session: Session, recording: PlayRecording) -> saved.Saved:
    job = session.jobs.submit(partial(saved.run, session, "fake", recording))
    assert job.finished.wait(60)
    assert job.state is JobState.DONE, job.error
    assert isinstance(job.result, saved.Saved)
    return job.result


def test_a_clip_shows_what_was_played_and_holds_its_keys(session: Session) -> None:
    recording = played(session)
    made = save(session, recording)
    frames_THWC = read_video(made.clip)[0]
    assert len(frames_THWC) == made.num_frames == 13
    reds = [int(np.median(frame[..., 0])) for frame in frames_THWC[1::4]]
    assert np.abs(np.subtract(reds, [HUES[key] for key in KEYS])).max() < 8
    for file in (made.clip, made.recording):
        assert read_recording(file) == recording
    assert made.is_complete
    assert "ready: 13 frames." in saved.status(session.jobs.finished()[0])


def test_a_long_play_is_cut(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "MOST_SAVED", 2)
    made = save(session, played(session))
    assert (made.num_frames, made.is_complete) == (9, False)
    assert read_recording(made.clip).pressed == KEYS[:2]


def test_a_played_clip_is_a_clip_for_the_other_tabs(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = save(session, played(session, KEYS * 3))
    last_THWC = read_context(made.last_frames, 5)
    assert len(last_THWC) == 5
    assert abs(int(np.median(last_THWC[-1, ..., 0])) - HUES[KEYS[-1]]) < 8
    clip = from_file(session, made.clip, "fake", title="your clip")
    assert (clip.action, clip.frames_THWC.shape) == (None, (17, 128, 128, 3))


@pytest.mark.parametrize("start", ["x" * 5_000, "\N{CJK UNIFIED IDEOGRAPH-5B57}" * 300, "../../up"])
def test_a_recording_of_any_start_becomes_a_clip(session: Session, start: str) -> None:
    made = save(session, replace(played(session), start=start))
    assert made.clip.parent.parent == session.outputs
    assert read_recording(made.clip).start == start[:80]
    title = Starts(None).add_recording(replace(played(session), start=start)).title
    assert title == f"a recording from {start[:80]}"


def test_a_replay_is_recorded_under_the_start_of_its_recording(session: Session) -> None:
    recording = replace(played(session), start="drawer open")
    start = Starts(None).add_recording(recording)
    player = Player(session.pipeline("fake"), start, BEGIN)
    for number in range(len(KEYS)):
        player.step(number, "", 0.0, 1)
    assert player.recording() == recording


def test_a_play_is_saved_with_the_model_that_was_played(session: Session) -> None:
    with gr.Blocks() as blocks:
        model, follower = gr.Dropdown(["fake"], value="fake"), Follower(session.jobs, "play", 0.5)
        tab = PlayTab(session, blocks, model, follower)
    start = tab.starts.add_recording(played(session), "fake")
    updates = tab.save("another, without keys", "", gr.EventData(None, {"id": start.id}))
    job = session.jobs.get(updates[follower.job_id])
    assert job is not None
    assert job.finished.wait(60)
    assert job.state is JobState.DONE, job.error
    assert job.result.clip.name == "play_a-new-scene_fake.mp4"


def test_a_clip_by_other_weights_than_those_that_were_played_says_so(session: Session) -> None:
    """They may be replaced on disk while somebody plays."""
    recording = played(session)
    assert save(session, recording).differences == []
    pipeline: Any = session.pipeline("fake")
    pipeline.identity = {"sha256": "0" * 64}
    save(session, recording)
    text = saved.status(session.jobs.finished()[0])
    assert "The clip is ready" in text
    assert "Frames may differ from the recording: other weights" in text


@pytest.mark.parametrize("file", ["clip", "recording", "last_frames"])
def test_a_clip_that_made_way_is_not_called_ready(session: Session, file: str) -> None:
    with gr.Blocks() as blocks:
        model, follower = gr.Dropdown(["fake"], value="fake"), Follower(session.jobs, "play", 0.5)
        tab = PlayTab(session, blocks, model, follower)
    getattr(save(session, played(session)), file).unlink()
    updates = tab.draw(session.jobs.finished()[0])
    assert saved.GONE in updates[tab.status]
    assert updates[tab.result].visible is False
    assert tab.clip not in updates


def test_one_play_continues_in_generate_whatever_others_save(session: Session) -> None:
    """Two visitors save plays of one start and model: each continues from frames of its own."""
    with gr.Blocks() as blocks:
        model, follower = gr.Dropdown(["fake"], value="fake"), Follower(session.jobs, "play", 0.5)
        tab = PlayTab(session, blocks, model, follower)
    files: list[Path] = []
    for key in ("left", "up"):
        save(session, played(session, (key,) * 3))
        files.append(Path(tab.last_frames(session.jobs.finished()[0].id)))
    assert files[0].name == files[1].name
    for file, key in zip(files, ("left", "up"), strict=True):
        assert file.is_relative_to(session.uploads)
        assert abs(int(np.median(read_context(file, 5)[-1, ..., 0])) - HUES[key]) < 8


def test_a_long_clip_can_be_stopped_and_is_kept_so_far(session: Session) -> None:
    """Token by token, a clip may take an hour, and everybody waits for it."""
    with gr.Blocks() as blocks:
        model, follower = gr.Dropdown(["fake"], value="fake"), Follower(session.jobs, "play", 0.5)
        tab = PlayTab(session, blocks, model, follower)
    recording = played(session, ("left",) * 200)
    pipeline: Any = session.pipeline("fake")
    pipeline.step_s = 0.05
    job = session.jobs.submit(partial(saved.run, session, "fake", recording))
    while job.progress is None:
        time.sleep(0.01)
    running = follower.poll(job.id, ("", 0))
    assert running[tab.halt].visible
    assert running[tab.halt].interactive
    follower.stop(job.id)
    assert job.finished.wait(60)
    ended = follower.poll(job.id, ("", 0))
    assert not ended[tab.halt].visible
    assert not job.result.is_complete
    assert 0 < len(read_recording(job.result.clip).pressed) < 200
    assert "the first" in ended[tab.status]


def test_a_second_clip_waits_for_the_first_or_its_stop(session: Session) -> None:
    """The page follows one clip: Stop would not reach another that was queued before."""
    with gr.Blocks() as blocks:
        model, follower = gr.Dropdown(["fake"], value="fake"), Follower(session.jobs, "play", 0.5)
        tab = PlayTab(session, blocks, model, follower)
    pipeline: Any = session.pipeline("fake")
    start = tab.starts.add_recording(played(session, ("left",) * 200), "fake")
    event = gr.EventData(None, {"id": start.id})
    pipeline.step_s = 0.05
    first = tab.save("fake", "", event)[follower.job_id]
    with pytest.raises(gr.Error, match="A clip is being made"):
        tab.save("fake", first, event)
    assert session.jobs.length == 1
    follower.stop(first)
    second = tab.save("fake", first, event)[follower.job_id]  # the first ends within one step
    follower.stop(second)
    third = tab.save("fake", second, event)[follower.job_id]
    pipeline.step_s = 0.0
    job = session.jobs.get(third)
    assert job is not None
    assert job.finished.wait(60)
    assert job.result.is_complete


def test_a_model_without_keys_is_a_sentence(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = played(session)
    monkeypatch.setattr(FakePipeline, "worlds", ())
    job = session.jobs.submit(partial(saved.run, session, "fake", recording))
    assert job.finished.wait(60)
    assert job.error == "model 'fake' has no keys for the arm world"

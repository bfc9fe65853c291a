"""The Tokenizer tab: what is taken, what comes back, what is said about it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.clips.kept import find_clip
from app.clips.request import make_request
from app.clips.run import run as run_clip
from app.jobs import JobView
from app.parts.follow import Follower
from app.parts.made import made_clips
from app.session import Session
from app.tokenizer import view
from app.tokenizer.round_trip import (
    Material,
    RoundTrip,
    Source,
    cut,
    read_material,
    run,
    split_strip,
)
from app.tokenizer.tab import TokenizerTab
from nbp_core.config.weight_files import weights_sha256
from nbp_core.media.fidelity import psnr
from nbp_core.media.video import read_video, write_strip, write_video
from nbp_core.models.speed_only import SpeedOnlyTokenizer
from nbp_core.tokenizer.model import VideoTokenizer
from tests.support.disk import refused_while_older
from tests.support.engine import answer_of, fake_session
from tests.support.models import CODES, build_pipeline, save_pipeline, transformer_config


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session, _ = fake_session(tmp_path / "models", step_s=0)
    yield session
    session.close()


def noise(count: int, height: int = 128, width: int = 128) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def trip_of(session: Session, model: str, count: int) -> RoundTrip:
    material = Material(model=model, name="noise.mp4", frames_THWC=noise(count))
    job = session.jobs.submit(partial(run, session, material))
    assert job.finished.wait(60)
    assert isinstance(job.result, RoundTrip), job.error
    return job.result


def read(source: Source, path: Path | None = None, made: JobView | None = None) -> Material:
    name = None if path is None else str(path)
    return read_material("fake", source, name, name, made)


def test_the_pictures_and_figures_are_those_of_the_real_tokenizer(tmp_path: Path) -> None:
    save_pipeline(tmp_path)
    session = Session(tmp_path, "cpu")
    trip = trip_of(session, "tiny", 7)
    made = session.pipeline("tiny").reconstruct(noise(5))
    assert np.array_equal(split_strip(trip.original_strip), noise(5))
    assert np.array_equal(split_strip(trip.strip), made.frames_THWC)
    assert np.array_equal(np.load(trip.tokens), made.tokens_thw)
    report = json.loads(trip.figures.read_text())
    assert report["psnr"] == psnr(noise(5), made.frames_THWC)
    assert (report["tokens"], report["codebook_size"]) == ([2, 16, 16], CODES)
    assert report["codes_used"] == len(np.unique(made.tokens_thw))
    fingerprint = weights_sha256(tmp_path / "nano")
    assert report["tokenizer_sha256"] == fingerprint
    assert f"tokenizer test-tokenizer ({fingerprint[:8]})" in trip.measured
    assert "of noise.mp4" in trip.measured
    session.close()


@pytest.mark.parametrize("latents", [1, 3])
def test_a_clip_is_cut_as_the_tokenizer_needs_it_whatever_the_models_grid(
    tmp_path: Path, latents: int
) -> None:
    save_pipeline(tmp_path, transformer_config(grid=(latents, 16, 16)))
    session = Session(tmp_path, "cpu")
    trip = trip_of(session, "tiny", 7)
    assert trip.tokens_thw.shape == (2, 16, 16)
    assert "The first 5 are used" in trip.note
    session.close()


def test_a_round_trip_is_not_lost_where_older_files_fill_the_disk(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = trip_of(session, "fake", 1)
    write = refused_while_older(session, write_strip)
    monkeypatch.setattr("app.tokenizer.round_trip.write_strip", write)
    assert trip_of(session, "fake", 1).is_there
    assert not older.is_there


def test_a_round_trip_that_made_way_says_so(session: Session) -> None:
    trip = trip_of(session, "fake", 1)
    assert "Done." in view.status(session.jobs.finished()[0])
    trip.tokens.unlink()
    assert "made way for newer ones" in view.status(session.jobs.finished()[0])


def test_a_square_away_from_the_middle_is_taken_and_named(session: Session, tmp_path: Path) -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, :64, 0] = wide[:, 128:, 2] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    path = str(tmp_path / "wide.png")
    colours = []
    for crop in (0.0, 0.5, 1.0):
        material = read_material("fake", "picture", path, None, None, crop)
        assert material.frames_THWC.shape == (1, 128, 128, 3)
        colours.append(tuple(material.frames_THWC[0, 64, 64]))
    assert colours == [(255, 0, 0), (0, 0, 0), (0, 0, 255)]
    job = session.jobs.submit(partial(run, session, material))
    assert job.finished.wait(60)
    assert "against the square at crop 1.00 of wide.png" in job.result.measured
    with pytest.raises(ValueError, match="crop must be from 0 to 1"):
        read_material("fake", "picture", path, None, None, 2)


def test_untrained_models_are_refused_in_one_sentence(tmp_path: Path) -> None:
    save_pipeline(tmp_path)
    pipeline = build_pipeline()
    assert isinstance(pipeline.tokenizer, VideoTokenizer)
    pipeline.tokenizer = SpeedOnlyTokenizer(pipeline.tokenizer)
    session = Session(tmp_path, "cpu", load=lambda name: pipeline)
    material = Material(model="tiny", name="x", frames_THWC=noise(1))
    job = session.jobs.submit(partial(run, session, material))
    assert job.finished.wait(60)
    assert "This model is untrained" in view.status(session.jobs.view(job.id))
    session.close()


@pytest.mark.parametrize(
    ("count", "used", "said"),
    [
        (1, 1, "One picture"),
        (4, 1, "has 4 frames. The first 1 "),
        (5, 5, "All 5 frames"),
        (16, 13, "has 16 frames. The first 13 "),
        (17, 17, "All 17 frames"),
        (18, 17, "more than 17 frames. Its first 17"),
    ],
)
def test_a_clip_is_cut_to_whole_latent_frames(count: int, used: int, said: str) -> None:
    frames, note = cut(noise(count, 8, 8), 4)
    assert len(frames) == used
    assert said in note


@pytest.mark.parametrize(
    ("name", "count", "fps", "said"),
    [
        ("a.gif", 20, 20, "has 20 frames at 20 frames per second, which are 8 frames at 8. The"
         " first 5 are used"),
        ("a.mp4", 15, 24, "has 15 frames at 24 frames per second, which are 5 frames at 8. All 5"),
        ("a.gif", 6, 20, "has 6 frames at 20 frames per second, too few for 8: 5 of them are read,"
         " evenly spread. All 5 "),
        ("a.mp4", 8, 8, "The clip has 8 frames. The first 5 are used"),
        ("a.mp4", 90, 30, "more than 17 frames. Its first 17"),
    ],
)  # fmt: skip
def test_it_is_said_how_a_file_of_another_rate_is_read(
    session: Session, tmp_path: Path, name: str, count: int, fps: int, said: str
) -> None:
    path, frames = tmp_path / name, noise(count, 32, 32)
    if path.suffix == ".gif":
        pictures = [Image.fromarray(frame) for frame in frames]
        duration = 1000 // fps
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration)
    else:
        write_video(path, frames, fps)
    job = session.jobs.submit(partial(run, session, read("clip", path)))
    assert job.finished.wait(60)
    assert said in job.result.note


def picture_of(address: str) -> Any:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        return np.asarray(picture)


def test_a_clip_becomes_two_clips_and_two_strips(session: Session) -> None:
    trip = trip_of(session, "fake", 17)
    assert trip.clip is not None
    assert trip.original_clip is not None
    assert read_video(trip.clip)[0].shape == (17, 512, 512, 3)
    shown = view.pair(trip, 17)
    before, after = picture_of(shown["before"]), picture_of(shown["after"])
    assert before.shape == (512, 512, 3)
    assert np.array_equal(before[::4, ::4], noise(17)[16])
    assert np.array_equal(after, before // 2)
    text = view.figures(trip)
    assert "256 of 4,096" in text
    assert "1.9 kB" in text
    assert f"{17 * 128 * 128 * 24 / (1280 * 12):,.0f}x" in text
    maps = view.token_maps(trip)
    assert maps.count("<img") == 5
    assert "Frame 1: 256 different codes<" in maps
    assert (
        "Frames 6 to 9: 256 different codes; 256 of 256 unchanged from the latent frame before"
        in maps
    )
    assert list(view.quality_curve(trip).data[0].x) == list(range(1, 18))


def test_a_picture_has_no_clip(session: Session) -> None:
    trip = trip_of(session, "fake", 1)
    assert trip.clip is None
    assert "One picture" in view.figures(trip)
    assert "compressed size" in view.figures(trip)


def test_equal_pictures_are_said_to_be_equal() -> None:
    assert view.decibel(float("inf")) == "identical"
    assert view.decibel(23.64) == "23.6 dB"


def test_uploads_are_told_by_content_and_capped(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    write_video(tmp_path / "long.mp4", noise(40, 32, 32))
    assert read("picture", tmp_path / "red.png").frames_THWC.shape == (1, 128, 128, 3)
    long = read("clip", tmp_path / "long.mp4")
    assert (len(long.frames_THWC), long.name) == (18, "long.mp4")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    with pytest.raises(ValueError, match=r"^torn\.png is damaged"):
        read("picture", tmp_path / "torn.png")
    with pytest.raises(ValueError, match="Choose a clip, or one of the examples"):
        read("clip")
    with pytest.raises(ValueError, match="made here"):
        read("made")


def test_a_clip_made_here_is_read_without_loss(session: Session) -> None:
    request = make_request(
        model="fake", start="action", action="door-open", picture=None, clip=None,
        block="1x1x16", num_frames=33, temperature=1, top_k=10, top_p=0.9, guidance=1, seed=3,
    )  # fmt: skip
    job = session.jobs.submit(partial(run_clip, session, request), request)
    assert job.finished.wait(60)
    trip_of(session, "fake", 1)  # not a clip to choose
    [(shown, clip_id)] = [(clip.title, clip.id) for clip in made_clips(session, job.id)]
    assert shown == "door open, row 1x1x16, seed 3, fake, the clip on Generate"
    assert clip_id == job.id
    material = read("made", made=session.jobs.view(job.id))
    assert np.array_equal(material.frames_THWC, split_strip(job.result.strip)[:18])
    # The gallery has the clip, also when its job is forgotten and its files have gone.
    job.result.strip.unlink()
    session.jobs.forget(job.id)
    [clip] = made_clips(session, "")
    assert clip.title.startswith("door open, row 1x1x16, seed 3, fake, ")
    assert clip.id == job.id
    again = read("made", made=find_clip(session, clip.id))
    assert np.array_equal(again.frames_THWC, material.frames_THWC)
    session.library.delete(session.library.clips()[0])
    session.jobs.forget(job.id)
    assert made_clips(session, job.id) == []


@pytest.fixture
def tab(session: Session) -> TokenizerTab:
    with gr.Blocks() as blocks:
        model = gr.Dropdown(["fake"], value="fake")
        trip, made = (Follower(session.jobs, name, 0.5) for name in ("trip", "made"))
        return TokenizerTab(session, blocks, model, trip, made)


def test_the_page_follows_a_round_trip_to_its_result(tab: TokenizerTab, tmp_path: Path) -> None:
    page = tab.page
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    begun = tab.begin("fake", "picture", str(tmp_path / "teal.png"), None, None)
    job = tab.session.jobs.get(begun[page.follower.job_id])
    assert job is not None
    assert job.finished.wait(60)
    updates = page.follower.poll(job.id, ("", 0))
    assert "Done." in updates[page.status]
    assert "PSNR" in updates[page.figures]
    assert list(updates[page.curve].data[0].x) == [1]
    assert updates[page.frame].maximum > page.frame.minimum, "a slider needs two ends"
    seen = updates[page.follower.seen]
    told = page.follower.poll(job.id, seen)
    assert set(told) == {page.follower.seen, page.follower.catch_up}, "nothing is sent twice"
    shown = tab.show_frame(job.id, 1)
    assert np.array_equal(picture_of(shown["after"]), picture_of(shown["before"]) // 2)


def test_a_reloaded_page_has_the_choices_of_its_round_trip(
    tab: TokenizerTab, tmp_path: Path
) -> None:
    page = tab.page
    Image.new("RGB", (64, 32), "teal").save(tmp_path / "teal.png")
    begun = tab.begin("fake", "picture", str(tmp_path / "teal.png"), None, None, 0.25)
    found = tab.come_back(begun[page.follower.job_id], ("", 0), "")
    assert (found[page.source], found[page.crop]) == ("picture", 0.25)
    assert page.status in found
    assert page.source not in tab.come_back("gone", ("", 0), "")


def test_the_clip_that_was_chosen_is_not_sent_back(tab: TokenizerTab) -> None:
    """While the menu is renewed, another one may be chosen."""
    request = make_request(
        model="fake", start="action", action="door-open", picture=None, clip=None,
        block="1x1x16", num_frames=17, temperature=1, top_k=10, top_p=0.9, guidance=1, seed=3,
    )  # fmt: skip
    job = tab.session.jobs.submit(partial(run_clip, tab.session, request), request)
    assert job.finished.wait(60)
    assert tab.offer_made(job.id, "gone").value == job.id
    assert "value" not in tab.offer_made(job.id, job.id).constructor_args


def test_a_round_trip_whose_files_made_way_is_not_shown(tab: TokenizerTab) -> None:
    """The oldest files go first, one by one."""
    trip = trip_of(tab.session, "fake", 5)
    (view,) = tab.session.jobs.finished()
    trip.original_strip.unlink()
    assert set(tab.draw(view)) == {tab.page.status}
    assert tab.show_frame(view.id, 1) == gr.skip()


def test_a_bad_file_is_refused_before_anything_is_queued(tab: TokenizerTab, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(gr.Error, match=r"notes\.txt is not a picture"):
        tab.begin("fake", "picture", str(tmp_path / "notes.txt"), None, None)
    assert tab.session.jobs.length == 0


def test_the_endpoint_gives_the_file_and_the_figures(tab: TokenizerTab, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", noise(6))
    file, report = answer_of(tab.tokenize("fake", str(tmp_path / "clip.mp4")))
    assert len(read_video(file)[0]) == 5
    assert report["frames"] == 5
    assert report["source"] == "clip.mp4"
    assert len(report["psnr_per_frame"]) == 5
    with pytest.raises(gr.Error, match="does not exist"):
        answer_of(tab.tokenize("fake", str(tmp_path / "none.mp4")))

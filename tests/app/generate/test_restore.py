"""Dropping a file back restores what made it, and the same settings make the same frames."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.clips.request import make_request
from app.clips.run import Outcome, run
from app.generate.restore import read_manifest, restore
from app.session import Session
from nbp_core.generation.recording import Fingerprint, PlayRecording
from nbp_core.media.video import write_video
from tests.support.engine import FakePipeline, fake_session, small_clips
from tests.support.models import save_pipeline, transformer_config

VALUES: dict[str, Any] = {
    "model": "tiny", "start": "action", "action": "door-open", "picture": None, "clip": None,
    "block": "1x1x16", "num_frames": 17, "temperature": 0.85, "top_k": 40, "top_p": 0.95,
    "guidance": 1.5, "seed": 1234, "actions": "", "crop": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    models = tmp_path_factory.mktemp("restore") / "models"
    save_pipeline(models)
    session = Session(models, "cpu")
    with small_clips():
        yield session
    session.close()


@pytest.fixture(scope="module")
def first(session: Session) -> Outcome:
    return make(session, VALUES)


def make(session: Session, values: dict[str, Any]) -> Outcome:
    request = make_request(**values)
    job = session.jobs.submit(partial(run, session, request), request)
    assert job.finished.wait(100)
    assert job.result is not None, job.error
    outcome: Outcome = job.result
    return outcome


def picture_file(folder: Path) -> str:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (90, 140, 3), np.uint8)).save(folder / "start.png")
    return str(folder / "start.png")


def test_actions_over_time_are_restored(tmp_path: Path) -> None:
    config = replace(transformer_config(), frame_conditions=True, window=4)
    save_pipeline(tmp_path / "models", config)
    session = Session(tmp_path / "models", "cpu")
    values = VALUES | {"block": "1x16x16", "guidance": 1.0, "action": ""}
    values |= {"actions": "door-open*2 pan-left*4"}
    with small_clips():
        outcome = make(session, values)
    assert outcome.num_frames == 25
    assert outcome.clip.name.startswith("door-open-pan-left_")
    assert restore(session, outcome.clip).values == values
    settings = json.loads(outcome.settings.read_text())
    unknown = tmp_path / "unknown.json"
    unknown.write_text(json.dumps(settings | {"actions": "fly*6"}))
    with pytest.raises(ValueError, match="lacks"):
        restore(session, unknown)
    session.close()


@pytest.mark.parametrize("kind", ["clip", "gif", "strip", "tokens", "settings"])
def test_every_file_restores_all_settings(session: Session, first: Outcome, kind: str) -> None:
    restored = restore(session, getattr(first, kind))
    assert restored.values == VALUES
    assert restored.note == "All settings are restored."


def test_a_restored_clip_is_made_again_frame_by_frame(session: Session, first: Outcome) -> None:
    again = make(session, restore(session, first.clip).values)
    assert again.strip.read_bytes() == first.strip.read_bytes()
    assert np.array_equal(again.last.tokens_thw, first.last.tokens_thw)
    other = make(session, {**VALUES, "seed": 1235})
    assert other.strip.read_bytes() != first.strip.read_bytes()


@pytest.mark.parametrize("start", ["frame", "clip"])
def test_a_start_is_found_while_it_is_there(session: Session, tmp_path: Path, start: str) -> None:
    clip = tmp_path / "start.mp4"
    rng = np.random.default_rng(1)
    write_video(clip, rng.integers(0, 256, (6, 64, 96, 3), np.uint8))
    files = {"frame": ("picture", picture_file(tmp_path)), "clip": ("clip", str(clip))}
    kind, source = files[start]
    values = {
        **VALUES, "start": start, kind: source, "action": "", "block": "1x16x16", "crop": 0.25
    }  # fmt: skip
    made = make(session, values)
    restored = restore(session, made.settings)
    assert restored.values == values
    assert restored.note == "All settings are restored."
    assert make(session, restored.values).strip.read_bytes() == made.strip.read_bytes()
    Path(source).unlink()
    restored = restore(session, made.settings)
    assert restored.values == {**values, kind: None}
    assert "not in the file. Choose the same" in restored.note


@pytest.fixture(scope="module")
def fake(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Session, FakePipeline, Outcome]]:
    session, pipeline = fake_session(tmp_path_factory.mktemp("fake") / "models", step_s=0)
    with small_clips():
        made = make(session, {**VALUES, "model": "fake"})
    yield session, pipeline, made
    session.close()


def test_other_weights_are_told(
    fake: tuple[Session, FakePipeline, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, pipeline, made = fake
    monkeypatch.setattr(pipeline, "identity", {"sha256": "0" * 64})
    assert "weights have changed since" in restore(session, made.clip).note


def test_weights_held_otherwise_are_told(
    session: Session, first: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert restore(session, first.clip).note == "All settings are restored."
    identity = {**session.pipeline("tiny").identity, "weight_format": "int4"}
    monkeypatch.setattr(session.pipeline("tiny"), "identity", identity)
    assert "weights were stored in another format" in restore(session, first.clip).note


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "gone"}, "There is no model 'gone'"),
        ({"action": "fly"}, "an action that the model 'fake' lacks"),
        ({"block_shape": "1x3x3"}, "a block shape that the model 'fake' does not support"),
        ({"block_shape": "row"}, "cannot show"),
        ({"num_frames": 21}, "cannot show"),
        ({"num_frames": [17]}, "cannot show"),
        ({"actions": "door-open*2", "num_frames": "nine"}, "cannot show"),
        ({"actions": "door-open*2", "num_frames": 10**12 + 1}, "cannot show"),
        ({"actions": "door-open*2", "num_frames": 17}, "cannot show"),
        ({"actions": " ", "num_frames": "nine"}, "cannot show"),
        ({"model": ["fake"]}, "cannot show"),
        ({"context": {"num_frames": 3}}, "cannot show"),
        ({"context": "none"}, "cannot show"),
        ({"sampling": None}, "cannot show"),
        ({"sampling": {}}, "cannot show"),
        ({"sampling.temperature": 9}, "cannot show"),
        ({"sampling.temperature": "hot"}, "cannot show"),
        ({"sampling.top_p": float("nan")}, "cannot show"),
        ({"sampling.top_k": True}, "cannot show"),
        ({"sampling.seed": 2**60}, "cannot show"),
        ({"sampling.extra": 1}, "cannot show"),
        ({"software": "another"}, "has no settings"),
    ],
)
def test_settings_that_cannot_be_had_are_one_sentence(
    fake: tuple[Session, FakePipeline, Outcome],
    tmp_path: Path,
    change: dict[str, Any],
    sentence: str,
) -> None:
    session, _, made = fake
    manifest = json.loads(json.dumps(made.manifest))
    for key, value in change.items():
        *parent, last = key.split(".")
        (manifest[parent[0]] if parent else manifest)[last] = value
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=sentence) as caught:
        restore(session, path)
    assert str(tmp_path) not in str(caught.value)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def bomb() -> bytes:
    """An archive of a few kilobytes that unpacks to 40 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.npy", b"0" * 40_000_000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"[1, 2]",
        b"{" * 200_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"9" * 5_000 + b"}",
        b"\xff\xfe\x00",
        b"{\xff}",
        b"PK\x03\x04 torn",
        npz(other=np.zeros(3)),
        npz(settings=np.zeros(3)),
        npz(settings=np.array("{}"))[:-30],
        bomb(),
    ],
    ids=range(14),
)
def test_files_without_settings_are_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^file\.bin [^\n]*\.$"):
        read_manifest(path)


def test_a_clip_or_a_picture_from_elsewhere_has_none(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((2, 32, 32, 3), np.uint8), comment="holiday")
    for path in (tmp_path / "a.mp4", Path(picture_file(tmp_path))):
        with pytest.raises(ValueError, match="has no settings of this studio"):
            read_manifest(path)


def test_a_play_is_sent_to_its_own_tab(tmp_path: Path) -> None:
    recording = PlayRecording(
        world="arm", keys="left", first_frame=((0,),), fingerprint=Fingerprint(model="tiny")
    )
    recording.write(tmp_path / "a.json")
    frames_THWC = np.zeros((5, 32, 32, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames_THWC, comment=recording.comment())
    for name in ("a.json", "a.mp4"):
        with pytest.raises(ValueError, match="is a recording of the Play tab"):
            read_manifest(tmp_path / name)

"""Models found and loaded, and files that stay private and few."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.clips.words import device_words
from app.folders import MendsUploads, trim
from app.session import MAX_LOADED, QUICK_BYTES, Session, find_models
from nbp_core.checkpoint import save_model
from nbp_core.config.presets import PAPER_PRESETS
from nbp_core.models.catalogue import catalogue
from nbp_core.packed.formats import formats_on
from nbp_core.runtime import Runtime
from tests.support.broken_models import add_broken
from tests.support.engine import FakePipeline, add_model, fake_session
from tests.support.models import build_tokenizer, save_pipeline, transformer_config

PICTURE = np.zeros((1, 128, 128, 3), np.uint8)
SHAPE = replace(transformer_config("plain", modern=False), codebook_size=64_000)


def test_find_models_takes_transformers_the_smallest_first(tmp_path: Path) -> None:
    add_model(tmp_path, "big", 20)
    add_model(tmp_path, "little", 10)
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    add_broken(tmp_path, tmp_path / "big" / "model.safetensors")
    assert list(find_models(tmp_path)) == ["little", "big"]
    assert list(find_models(tmp_path, "tokenizer")) == ["nano"]


def test_a_broken_link_or_an_odd_name_hides_no_other_model(tmp_path: Path) -> None:
    """Links to weights break when a download folder is cleared."""
    add_model(tmp_path, "broken", 20)
    add_model(tmp_path, "little", 10)
    (tmp_path / "broken" / "model.safetensors").unlink()
    (tmp_path / "broken" / "model.safetensors").symlink_to(tmp_path / "gone.safetensors")
    add_model(tmp_path, "odd", 10)
    (tmp_path / "odd").rename(tmp_path / os.fsdecode(b"cl\xe9ment"))  # as old archives write names
    assert set(find_models(tmp_path)) == {"broken", "little"}
    [entry] = [e for e in catalogue(tmp_path, "cpu") if e.name not in ("broken", "little")]
    assert "cannot be shown" in entry.fault
    assert entry.name.encode()


@pytest.mark.parametrize(
    ("sizes", "first"),
    [
        ({}, None),
        ({"big": QUICK_BYTES + 1, "bigger": QUICK_BYTES + 2}, "big"),
        ({"little": 10, "middle": QUICK_BYTES, "big": QUICK_BYTES + 1}, "middle"),
    ],
)
def test_the_page_begins_with_the_largest_model_that_is_quick(
    sizes: dict[str, int], first: str | None, tmp_path: Path
) -> None:
    for name, size in sizes.items():
        add_model(tmp_path, name, size)
    session = Session(tmp_path)
    assert session.first_model() == first
    session.close()


def test_only_the_latest_models_stay_loaded(tmp_path: Path) -> None:
    loads = list[str]()

    def load(name: str) -> Any:
        loads.append(name)
        return cast(Any, FakePipeline(name))

    for name in "abc":
        add_model(tmp_path, name)
    session = Session(tmp_path, load=load)
    for name in "ababca":
        assert session.pipeline(name).name == name
    assert MAX_LOADED == 2
    assert "".join(loads) == "abca"
    session.close()


def test_nobody_waits_for_a_model_that_others_load(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(name: str) -> Any:
        if name == "slow":
            begun.set()
            assert go_on.wait(10)
        return cast(Any, FakePipeline(name))

    for name in ("quick", "slow"):
        add_model(tmp_path, name)
    session = Session(tmp_path, load=load)
    session.pipeline("quick")
    loads = [threading.Thread(target=session.pipeline, args=["slow"]) for _ in range(2)]
    for thread in loads:
        thread.start()
    assert begun.wait(10)
    assert session.pipeline("quick").name == "quick"
    assert session.loaded("slow") is None
    go_on.set()
    for thread in loads:
        thread.join(10)
    assert session.loaded("slow") is session.pipeline("slow"), "loaded once"
    session.close()


def test_untrained_models_are_offered_and_say_so(tmp_path: Path) -> None:
    save_pipeline(tmp_path)
    session = Session(tmp_path, "cpu")
    assert session.model_names() == ["tiny"]
    assert session.speed_only_names()[0] == "XL (random weights: speed only)"
    session.close()
    without = Session(tmp_path / "none", "cpu")
    assert without.speed_only_names() == []
    without.close()


@pytest.mark.skipif("int8" not in formats_on("cpu"), reason="no smaller weights on this device")
def test_models_hold_their_weights_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pipeline(tmp_path)
    monkeypatch.setitem(PAPER_PRESETS, "XL", SHAPE)
    session = Session(tmp_path, "cpu", int8=True)
    for name in ("tiny", "XL (random weights: speed only)"):
        pipeline = session.pipeline(name)
        assert pipeline.generate(frames_THWC=PICTURE).manifest["weight_format"] == "int8"
        assert device_words(pipeline).endswith(", int8")
    session.close()
    usual = Session(tmp_path, "cpu")
    assert device_words(usual.pipeline("tiny")).endswith((" core", " cores"))
    usual.close()


def test_weights_that_this_device_cannot_hold_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="either int8 or int4"):
        Session(tmp_path, "cpu", int8=True, int4=True)
    chosen = Runtime(instructions=None, num_threads=1)
    monkeypatch.setattr("nbp_core.packed.formats.runtime", lambda: chosen)
    with pytest.raises(ValueError, match="int4 weights would gain nothing on this processor"):
        Session(tmp_path, "cpu", int4=True)


def test_unknown_model_and_empty_folder_are_explained(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    session = Session(tmp_path / "none")
    with pytest.raises(ValueError, match="There is no model 'x' in the folder 'none'"):
        session.pipeline("x")
    with pytest.raises(ValueError, match="holds no model yet"):
        session.pipeline(None)
    session.close()


def test_folders_are_private_and_go_with_the_session(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models")
    folders = (session.outputs, session.uploads)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700]
    assert os.environ["GRADIO_TEMP_DIR"] == str(session.uploads)
    session.close()
    assert [folder.exists() for folder in folders] == [False, False]


def test_a_link_in_place_of_a_private_folder_is_not_used(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models")
    taken = session.outputs
    taken.rmdir()
    taken.symlink_to(tmp_path)
    with pytest.raises(OSError, match="is not a folder"):
        session.new_output("job")
    taken.unlink()
    session.close()


def test_uploads_stay_until_the_last_studio_closes(tmp_path: Path) -> None:
    first, _ = fake_session(tmp_path / "models")
    second, _ = fake_session(tmp_path / "models")
    first.close()
    first.close()
    assert os.environ["GRADIO_TEMP_DIR"] == str(second.uploads)
    assert second.uploads.is_dir()
    second.close()
    third, _ = fake_session(tmp_path / "models")
    assert os.environ["GRADIO_TEMP_DIR"] == str(third.uploads)
    assert third.uploads.is_dir()
    third.close()
    assert not third.uploads.exists()


def test_folders_of_dead_studios_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not those of studios in other containers, which no number of a process tells apart."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old = time.time() - 10 * 86_400
    ages = {
        "nbp-studio-999999999-old": old,
        f"nbp-studio-{os.getpid()}-old": old,
        "nbp-studio-999999999-new": time.time(),
        f"nbp-studio-{os.getpid()}-new": time.time(),
    }
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))
    session, _ = fake_session(tmp_path / "models")
    assert [name for name in ages if (tmp_path / name).exists()] == list(ages)[2:]
    session.close()


def test_an_idle_studio_keeps_its_folders_fresh() -> None:
    program = """
import os, time
from app import folders
folders._TOUCH_S = 0.05
folder = folders.private_folder()
os.utime(folder, (0, 0))
until = time.monotonic() + 20
while folder.stat().st_mtime == 0 and time.monotonic() < until:
    time.sleep(0.05)
print(folder.stat().st_mtime > 0)
folder.rmdir()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=100)
    assert done.stdout == "True\n"


def test_only_the_newest_outputs_are_kept(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models", max_clips=3)
    for index in range(6):
        folder = session.new_output(f"job-{index}")
        os.utime(folder, (time.time() + index, time.time() + index))
    assert sorted(path.name for path in session.outputs.iterdir()) == ["job_3", "job_4", "job_5"]
    session.close()


def test_a_full_disk_takes_no_files_of_what_is_just_written(tmp_path: Path) -> None:
    """A page may open a kept clip while the worker writes another one."""
    session, _ = fake_session(tmp_path / "models")
    earlier = session.new_output("earlier")
    begun, go_on = threading.Event(), threading.Event()

    def written(folder: Path) -> bool:
        (folder / "a.mp4").touch()
        begun.set()
        assert go_on.wait(30)
        return (folder / "a.mp4").exists()

    def refused(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ThreadPoolExecutor() as worker:
        run = worker.submit(session.write_output, "run", written)
        assert begun.wait(30)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            session.write_output("page", refused)
        go_on.set()
        assert run.result()
    assert not earlier.exists()
    session.close()


def test_a_disk_too_full_for_a_folder_has_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = fake_session(tmp_path / "models")
    earlier, mkdir = session.new_output("earlier"), Path.mkdir

    def refused_while_earlier(folder: Path, *values: Any, **options: Any) -> None:
        if earlier.exists() and not folder.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(folder, *values, **options)

    monkeypatch.setattr(Path, "mkdir", refused_while_earlier)
    assert session.write_output("run", lambda folder: folder.is_dir())
    assert [path.name for path in session.outputs.iterdir()] == ["run"]
    session.close()


def test_an_output_that_vanishes_meanwhile_stops_no_run(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models")
    (session.outputs / "gone").symlink_to(tmp_path / "nowhere")
    assert session.new_output("job").is_dir()
    session.close()


def test_a_model_too_large_is_a_sentence_and_the_next_one_loads(tmp_path: Path) -> None:
    def load(name: str) -> Any:
        if name == "big":
            raise MemoryError
        return cast(Any, FakePipeline(name))

    add_model(tmp_path, "big", 20)
    add_model(tmp_path, "little", 10)
    session = Session(tmp_path, load=load)
    with pytest.raises(ValueError, match="Choose a smaller model"):
        session.pipeline("big")
    assert session.pipeline("little").name == "little"
    session.close()


def test_trim_deletes_the_oldest_files_first(tmp_path: Path) -> None:
    for index in range(4):
        path = tmp_path / str(index)
        path.write_bytes(b"0" * 100)
        os.utime(path, (index, index))
    trim(250, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_the_smallest_model_with_keys_is_named_without_loading_it(tmp_path: Path) -> None:
    add_model(tmp_path, "plain", 10)
    session, _ = fake_session(tmp_path)
    assert session.model_with_keys() is None
    keys = ("left", "right")
    num_conditions = transformer_config().num_conditions + len(keys)
    config = replace(
        transformer_config(), keys=keys, num_conditions=num_conditions, frame_conditions=True
    )
    for name, size in (("large", 30), ("middle", 20)):
        folder = tmp_path / name
        folder.mkdir()
        described = {"format": 1, "kind": "transformer", "config": config.to_dict()}
        (folder / "config.json").write_text(json.dumps(described))
        (folder / "model.safetensors").write_bytes(b"0" * size)
    add_broken(tmp_path, tmp_path / "plain" / "model.safetensors")
    assert session.model_with_keys() == "middle"
    session.close()


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_full_disk_answers_an_upload_with_a_sentence(pieces: int) -> None:
    sent = iter(range(pieces))

    def body() -> Iterator[bytes]:
        for _ in sent:
            yield b"piece"

    async def full(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise OSError(errno.ENOSPC, "No space left on device")

    client = TestClient(MendsUploads(full))
    answer = client.post("/", content=body())
    assert (answer.status_code, answer.text) == (
        507, "The studio's disk has no space left for this file.",
    )  # fmt: skip
    assert not list(sent)


def test_other_faults_of_the_system_are_handed_on() -> None:
    async def refused(scope: Scope, receive: Receive, send: Send) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        TestClient(MendsUploads(refused)).get("/")

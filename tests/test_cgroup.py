"""Limits of a container, in a stub of the folder that Linux shows them in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from app.clips.words import device_words
from nbp_core import cgroup, device, runtime
from nbp_core.data.ahead import in_threads
from nbp_core.media import ffmpeg
from nbp_core.media.video import read_video, write_video
from tests.support.models import build_pipeline

GB = 10**9
V1_NONE = "9223372036854771712"
Container = Callable[[str, dict[str, str]], None]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Makes the groups that this process is in, and the files that say what they may use."""
    monkeypatch.setattr(cgroup, "_MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(cgroup, "_MOUNT", tmp_path / "mount")

    def make(groups: str, files: dict[str, str]) -> None:
        (tmp_path / "self").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return make


MEMORY = {
    "version 2": (
        "0::/pod/box\n",
        {
            "pod/memory.max": f"{8 * GB}", "pod/memory.current": f"{7 * GB}",
            "pod/memory.stat": f"file {3 * GB}\ninactive_file {GB}\nactive_file {GB}",
            "pod/box/memory.max": "max", "pod/box/memory.current": f"{GB}",
        },
    ),
    "version 1": (
        "4:memory:/docker/1f\n1:cpu,cpuacct:/docker/1f\n0::/\n",
        {
            "memory/memory.limit_in_bytes": f"{4 * GB}",
            "memory/memory.usage_in_bytes": f"{2 * GB}",
            "memory/memory.stat": f"cache 5\ninactive_file 5\ntotal_inactive_file {GB}",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY)
def test_free_memory_ends_at_the_limit_of_the_container(container: Container, name: str) -> None:
    container(*MEMORY[name])
    assert cgroup.memory_left() == 3 * GB
    assert device.free_bytes("cpu") <= 3 * GB


def test_more_than_the_limit_leaves_nothing(container: Container) -> None:
    container("0::/\n", {"memory.max": f"{GB}", "memory.current": f"{2 * GB}"})
    assert device.free_bytes("cpu") == 0


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory.max": "max", "memory.current": "5", "cpu.max": "max 100000"},
        {
            "memory/memory.limit_in_bytes": V1_NONE, "memory/memory.usage_in_bytes": "5",
            "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000",
        },
    ],
    ids=["no files", "version 2", "version 1"],
)  # fmt: skip
def test_without_limits_the_machine_is_what_there_is(
    container: Container, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    container("2:memory:/\n1:cpu,cpuacct:/\n0::/\n", files)
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert device.free_bytes("cpu") == memory.available
    assert cgroup.processors() is None


def test_other_systems_have_no_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_MEMBERSHIP", tmp_path / "none")
    assert cgroup.memory_left() is None
    assert cgroup.processors() is None


CPU = {
    "version 2": (
        "0::/pod/box\n",
        {"pod/cpu.max": "150000 100000", "pod/box/cpu.max": "max 100000"},
    ),
    "version 1": (
        "1:cpu,cpuacct:/docker/1f\n0::/\n",
        {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CPU)
def test_cores_are_those_of_the_container_and_of_the_affinity(
    container: Container, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cgroup.cores() == 8
    container(*CPU[name])
    assert cgroup.cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5})
    assert cgroup.cores() == 1


def test_decoding_and_what_the_page_says_keep_to_the_container(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    container("0::/\n", {"cpu.max": "300000 100000"})
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)

    results = in_threads(work, range(40))
    next(results)
    assert len(begun) <= 7
    results.close()  # type: ignore[attr-defined]
    assert device_words(build_pipeline()) == "CPU, 3 cores"
    commands: list[list[object]] = []
    run = ffmpeg.run_logged

    def logged(arguments: list[object], *more: object, **options: object) -> object:
        commands.append(arguments)
        return run(arguments, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ffmpeg, "run_logged", logged)
    noise = np.random.default_rng(0).integers(0, 255, (9, 256, 256, 3), np.uint8)
    write_video(tmp_path / "noise.mp4", noise)
    read_video(tmp_path / "noise.mp4")
    first = [str(word) for word in commands[0]]
    assert first[first.index("-threads") + 1] == "3"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that PyTorch was given last, on a machine of 8 cores."""
    given = [8]
    monkeypatch.setattr(runtime, "_started", [])
    monkeypatch.setattr(torch, "get_num_threads", lambda: given[-1])
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    return given


@pytest.mark.parametrize("name", CPU)
def test_threads_are_no_more_than_the_container_has_time_for(
    container: Container, threads: list[int], name: str
) -> None:
    container(*CPU[name])
    assert cgroup.processors() == 1.5
    assert runtime.runtime().num_threads == threads[-1] == 2
    assert runtime.start() == runtime.runtime()


def test_chosen_threads_count(container: Container, threads: list[int]) -> None:
    container(*CPU["version 2"])
    assert runtime.start(num_threads=4).num_threads == threads[-1] == 4
    assert runtime.start() == runtime.runtime()

"""Ctrl+C ends every program soon, with nothing half-written left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nbp_core.interrupt import ABANDONED_S, unfinished_folder
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
SECONDS = 20.0
"""Far less than the work would take, and enough on a busy machine; idle ones need 0.6 to 1.6."""
ENDINGS = (130, -signal.SIGINT)
"""Python ends itself by the signal where it came while code was being made; shells say 130."""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

_BUSY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's shell ignores it
from pathlib import Path
from nbp_core.interrupt import end_soon_after_ctrl_c
from nbp_core.media.files import replacing
signal.signal(signal.SIGTERM, signal.default_int_handler)
end_soon_after_ctrl_c(lambda: Path(sys.argv[1], "tidied").touch())
import subprocess, time
import numpy as np
matrix = np.random.rand(5000, 5000)
subprocess.Popen(["sleep", "100"])
with replacing(Path(sys.argv[1], "clip.mp4")) as partial:
    partial.touch()
    print("ready", flush=True)
    {work}
"""
WORKS = {
    "native": "np.linalg.eigvals(matrix)",
    "deaf": """
    while True:
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            pass
""",
    "joined": """
    from concurrent.futures import ThreadPoolExecutor
    ThreadPoolExecutor().submit(time.sleep, 100)
    time.sleep(100)
""",
    "orderly": "time.sleep(100)",
    "tidying": """
    try:
        time.sleep(100)
    finally:
        time.sleep(0.3)
        Path(sys.argv[1], "tidied").touch()
""",
    "slow to take apart": """
    class Slow:
        def __del__(self, sleep=time.sleep):
            sleep(60)
    np.kept = Slow()
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        sys.exit(130)
""",
}


def interrupted(process: subprocess.Popen[str], is_group: bool = True) -> float:
    """Seconds from Ctrl+C to the end of a process and of all that it started."""
    children = psutil.Process(process.pid).children(recursive=True)
    start = time.monotonic()
    if is_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    process.wait(60)
    taken = time.monotonic() - start
    _, alive = psutil.wait_procs(children, timeout=10)
    alive = [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    for child in alive:
        child.kill()
    assert not alive
    return taken


@pytest.fixture
def busy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    script = _BUSY.format(work=WORKS[request.param])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        yield process
        process.kill()


@pytest.mark.parametrize("busy", ["native", "deaf"], indirect=True)
def test_a_process_that_does_not_listen_is_ended_tidily(
    busy: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert interrupted(busy, is_group=False) < SECONDS
    assert busy.returncode == 130
    assert busy.stderr is not None
    assert busy.stderr.read() == "stopped\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tidied"]


@pytest.mark.parametrize("busy", ["native", "joined", "orderly"], indirect=True)
def test_sigterm_ends_a_program_that_handles_it(
    busy: subprocess.Popen[str], tmp_path: Path
) -> None:
    busy.terminate()
    busy.wait(SECONDS)
    assert busy.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"tidied"}


@pytest.mark.parametrize("busy", ["tidying"], indirect=True)
@pytest.mark.parametrize("further", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_nothing_untidied(
    busy: subprocess.Popen[str], tmp_path: Path, further: signal.Signals
) -> None:
    busy.send_signal(signal.SIGINT)
    time.sleep(0.1)
    busy.send_signal(further)
    busy.wait(SECONDS)
    assert busy.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["tidied"]


@pytest.mark.parametrize("busy", ["orderly", "slow to take apart"], indirect=True)
def test_one_that_listens_ends_by_itself(busy: subprocess.Popen[str], tmp_path: Path) -> None:
    assert interrupted(busy) < SECONDS
    assert not list(tmp_path.iterdir())


_SAVING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's shell ignores it
from pathlib import Path
import numpy as np
from nbp_core import checkpoint
from nbp_core.interrupt import end_soon_after_ctrl_c
from nbp_core.models.released.convert import convert
from tests.support.models import build_tokenizer
from tests.support.released import ReferenceTokenizer, save_tokenizer
out, released = Path(sys.argv[1], "out"), Path(sys.argv[1], "magvit2_ucf.pt")
end_soon_after_ctrl_c()
tokenizer = build_tokenizer()
save_tokenizer(ReferenceTokenizer(), released)
matrix = np.random.rand(3000, 3000)
save_file = checkpoint.save_file

def slow(*arguments, **named):
    save_file(*arguments, **named)
    print("ready", flush=True)
    np.linalg.eigvals(matrix)

checkpoint.save_file = slow
out.mkdir()
{work}
"""
SAVES = {
    "save": 'checkpoint.save_model(out, "tokenizer", tokenizer.config, tokenizer.state_dict())',
    "convert": 'convert(released, out / "model")',
}


@pytest.mark.parametrize("work", SAVES.values(), ids=SAVES)
def test_no_half_written_model_is_left(tmp_path: Path, work: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SAVING.format(work=work), str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(list((tmp_path / "out").rglob("*"))) > 1
        assert interrupted(process) < SECONDS
        assert process.returncode == 130
    assert not list((tmp_path / "out").iterdir())


def test_what_killed_processes_left_is_removed_later(tmp_path: Path) -> None:
    """But not what may still be written, here or on another machine, nor what has other names."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = time.time() - ABANDONED_S - 60
    ages = {
        f".nbp-{ended.pid}.part": old,
        f".nbp-{ended.pid}-0a.part": old,
        f".nbp-{ended.pid + 100_000_000}.part": time.time(),
        ".nbp-mine.part": old,
    }
    for name, age in ages.items():
        leave(tmp_path / name, age)
    with unfinished_folder(tmp_path) as folder:
        assert {path.name for path in tmp_path.iterdir()} == {*list(ages)[2:], folder.name}
    assert {path.name for path in tmp_path.iterdir()} == set(list(ages)[2:])


def test_processes_of_one_number_write_a_file_beside_each_other(tmp_path: Path) -> None:
    """Two containers share a folder, and both name their first process 1."""
    program = """
import os, sys
from pathlib import Path
os.getpid = lambda: 1
from nbp_core.media.files import replacing
with replacing(Path(sys.argv[1], "clip.mp4")) as partial:
    print(partial.name, flush=True)
    partial.touch()
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    names = {process.stdout.readline() for process in both if process.stdout}
    for process in both:
        process.communicate()
    assert len(names) == 2
    assert [process.returncode for process in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("of", [os.getpid, os.getppid])
def test_a_number_that_is_used_again_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: Callable[[], int]
) -> None:
    """A process in a container has the number of the one that was killed there before."""
    monkeypatch.setattr("nbp_core.interrupt.ABANDONED_S", 0.0)
    began = psutil.Process(of()).create_time()
    before, since = tmp_path / f".nbp-{of()}.part", tmp_path / f".nbp-{of()}-0a.part"
    leave(before, began - 60)
    leave(since, began + 0.01)
    with unfinished_folder(tmp_path) as folder:
        assert set(tmp_path.iterdir()) == {since, folder}


def leave(folder: Path, changed: float) -> None:
    """A folder with a file, as a process leaves it that is killed at that time."""
    folder.mkdir()
    (folder / "model.safetensors").touch()
    for path in (folder / "model.safetensors", folder):
        os.utime(path, (changed, changed))


PROGRAMS = {
    "generate": "-m nbp_core generate --model weights/small --block 1x1x1 --frames 129"
    " --out {out}/a.mp4",
    "attention": "-m nbp_core attention --model weights/small --block 1x1x1 --out {out}/a.png",
    "compare": "-m nbp_core compare --model weights/small --out-dir {out}/both",
    "bench": "-m nbp_core bench --folder {out} --presets 3B --out {out}/bench.json",
    "doctor": "-m nbp_core doctor weights",
    "evaluate": "-m nbp_core evaluate --model weights/tiny --clips {clips} --cache {out}/cache"
    " --count 64 --out {out}/figures.json",
    "train": "-m nbp_core train-transformer --clips {clips} --run {out}/run --tokenizer"
    " weights/nano --steps 5000",
    "studio": "app.py --port {port}",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two actions."""
    import numpy as np

    from nbp_core.media.video import write_video

    folder = tmp_path_factory.mktemp("clips")
    for action in ("wave", "jump"):
        (folder / action).mkdir()
        for number in range(24):
            noise = np.random.default_rng(number).integers(0, 255, (17, 128, 128, 3), np.uint8)
            write_video(folder / action / f"{number}.mp4", noise)
    return folder


_LATE = """
import socket, time
hear = socket.socket.recv

def late(self, size):
    heard = hear(self, size)
    time.sleep(30)
    return heard

socket.socket.recv = late
"""


def test_it_ends_though_the_thread_that_watches_has_its_turn_late(tmp_path: Path) -> None:
    """While Python takes itself apart, no other thread has a turn any more."""
    script = _LATE + _BUSY.format(work=WORKS["slow to take apart"])
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        assert interrupted(process) < SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 6, 15])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_ends(tmp_path: Path, clips: Path, name: str, delay: int) -> None:
    command = PROGRAMS[name].format(out=tmp_path, clips=clips, port=free_port()).split()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            assert interrupted(process) < SECONDS
            assert process.returncode in ((0, *ENDINGS) if name == "studio" else ENDINGS)
        else:
            assert process.returncode == 0
        assert not list(tmp_path.rglob("*.part"))

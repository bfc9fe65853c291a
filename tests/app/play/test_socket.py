"""Players over real sockets: who may play, what they may say, and what ends with them."""

from __future__ import annotations

import json
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from app import ui
from app.play import players
from app.play.starts import NEW_SCENE
from app.session import Session
from app.sockets import BURST, MAX_MESSAGE_BYTES
from nbp_core.media.files import Frames
from nbp_core.media.video import write_video
from tests.support.engine import HUES, PLAY_KEYS, FakePipeline, FakePlay, fake_session

BEGIN = {
    "type": "begin", "start": NEW_SCENE, "model": "fake", "block": "1x1x16", "temperature": 0.6,
    "seed": 3,
}  # fmt: skip
KEYS = ("left", "left+grip", "stay", "up")
PATIENCE_S = 20


@dataclass(frozen=True)
class Studio:
    url: str
    session: Session
    pipeline: FakePipeline

    @property
    def address(self) -> str:
        return self.url.replace("http", "ws") + "play/socket"

    def open(self, **options: Any) -> Connection:
        options.setdefault("origin", self.url.rstrip("/"))
        return connect(self.address, open_timeout=PATIENCE_S, **options)


def write_episode(folder: Path) -> None:
    """An episode of four keys, all of one grey, as the data verb writes it."""
    folder.mkdir(parents=True)
    write_video(folder / "drawer-open.mp4", np.full((17, 128, 128, 3), 99, np.uint8), fps=16)
    label = {"scene": "drawer-open", "look": "stock", "keys": " ".join(KEYS)}
    (folder / "drawer-open.json").write_text(json.dumps(label))


def serve(folder: Path, **options: Any) -> Iterator[Studio]:
    write_episode(folder / "assets" / "play")
    session, pipeline = fake_session(folder / "models", assets=folder / "assets")
    blocks = ui.build(session)
    auth = options.pop("auth", None)
    url = ui.launch(
        blocks, "127.0.0.1", None, auth, prevent_thread_lock=True, quiet=True, **options
    )
    yield Studio(url, session, pipeline)
    blocks.close()
    session.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    yield from serve(tmp_path_factory.mktemp("play"))


@pytest.fixture
def studio(served: Studio) -> Studio:
    served.pipeline.step_s = 0.0
    served.pipeline.plays.clear()
    return served


def say(socket: Connection, message: dict[str, Any]) -> None:
    socket.send(json.dumps(message))


def hear(socket: Connection, kind: str) -> dict[str, Any]:
    """The next text of a kind; what is waited for is no answer."""
    while True:
        said = json.loads(socket.recv(timeout=PATIENCE_S))
        if said["type"] == kind:
            return dict(said)
        assert said["type"] == "waiting", said


def see(socket: Connection) -> tuple[dict[str, Any], Frames]:
    """The next latent frame: its header, and the picture (frames from top to bottom)."""
    while True:
        data = socket.recv(timeout=PATIENCE_S)
        if isinstance(data, bytes):
            break
        assert json.loads(data)["type"] == "waiting", data
    (length,) = struct.unpack(">I", data[:4])
    picture = cv2.imdecode(np.frombuffer(data[4 + length :], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return json.loads(data[4 : 4 + length]), picture.astype(np.uint8)


def hear_all(socket: Connection) -> None:
    while True:
        socket.recv(timeout=PATIENCE_S)


def flood(socket: Connection) -> None:
    for number in range(10 * BURST):
        say(socket, {"type": "step", "number": number, "key": "left"})
    hear_all(socket)


def begin(socket: Connection, **changes: Any) -> dict[str, Any]:
    say(socket, BEGIN | changes)
    return hear(socket, "started")


def step(socket: Connection, number: int, key: str) -> tuple[dict[str, Any], Frames]:
    say(socket, {"type": "step", "number": number, "key": key})
    return see(socket)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_key_makes_four_frames(studio: Studio) -> None:
    with studio.open() as socket:
        started = begin(socket)
        assert started["keys"][:2] == ["stay", "left"]
        assert started["block"] == "1x1x16"
        assert ["row 1x1x16: 16 steps per key", "1x1x16"] in started["blocks"]
        assert all(not shape.startswith("2x") for _, shape in started["blocks"])
        assert started["length"] is None
        assert "weights fake (ffffffff)" in started["weights"]
        header, picture = see(socket)
        assert (header["number"], header["count"], picture.shape) == (-1, 1, (128, 128, 3))
        for number, key in enumerate(KEYS):
            header, picture = step(socket, number, key)
            assert (header["number"], header["key"], header["count"]) == (number, key, 4)
            assert (header["steps"], header["players"]) == (16, 1)
            assert picture.shape == (512, 128, 3)
            assert (picture == (HUES[key], number + 1, 16)).all()


def test_block_temperature_and_guidance_change_while_it_runs(studio: Studio) -> None:
    with studio.open() as socket:
        assert begin(socket)["guidance"] == studio.pipeline.key_guidance, "the model's own"
        see(socket)
        step(socket, 0, "left")
        say(socket, {"type": "change", "block": "1x16x16"})
        assert hear(socket, "changed")["block"] == "1x16x16"
        say(socket, {"type": "change", "temperature": 0.25})
        assert hear(socket, "changed")["temperature"] == 0.25
        say(socket, {"type": "change", "guidance": 2.5})
        assert hear(socket, "changed")["guidance"] == 2.5
        assert step(socket, 1, "left")[0]["steps"] == 1
        say(socket, {"type": "change", "block": "1x3x3"})
        assert "not offered" in hear(socket, "refused")["why"]
        assert step(socket, 2, "left")[0]["steps"] == 1, "the play stays"
        (play,) = studio.pipeline.plays
        assert (play.sampling.temperature, play.sampling.guidance) == (0.25, 2.5)


def add_another(studio: Studio, name: str) -> None:
    """A model like the one there is, under another name."""
    models = studio.session.models
    shutil.copytree(models / "fake", models / name, dirs_exist_ok=True)


def test_another_model_goes_on_from_the_last_frame(studio: Studio) -> None:
    add_another(studio, "other")
    with studio.open() as socket:
        begin(socket)
        see(socket)
        _, picture = step(socket, 0, "up")
        say(socket, {"type": "change", "block": "1x16x16"})
        hear(socket, "changed")
        say(socket, {"type": "change", "guidance": 4})
        hear(socket, "changed")
        say(socket, {"type": "change", "model": "other"})
        changed = hear(socket, "changed")
        assert changed["guidance"] == studio.pipeline.key_guidance, "that of the other model"
        assert (changed["model"], changed["block"]) == ("other", "1x16x16")
        old, new = studio.pipeline.plays
        assert (new.first_frame_HWC == picture[-128:]).all()
        step(socket, 1, "up")
        until(lambda: old.is_closed)


def test_another_model_without_the_block_goes_on_in_one_of_its_own(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_another(studio, "rows")
    with studio.open() as socket:
        begin(socket)
        see(socket)
        step(socket, 0, "up")
        say(socket, {"type": "change", "block": "1x16x16"})
        hear(socket, "changed")
        monkeypatch.setattr(FakePipeline, "block_shapes", ((1, 1, 1), (1, 1, 16)))
        say(socket, {"type": "change", "model": "rows"})
        changed = hear(socket, "changed")
        assert (changed["model"], changed["block"]) == ("rows", "1x1x16")
        step(socket, 1, "up")


def test_a_key_out_of_reach_is_named_in_the_header(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio.pipeline, "key_reach", (("left", 1, "right", 1),))
    with studio.open() as socket:
        begin(socket)
        see(socket)
        headers = [step(socket, number, "left")[0] for number in range(2)]
        assert [header["is_out"] for header in headers] == [False, True]
        assert [header["key"] for header in headers] == ["left", "left"]


def test_beside_the_simulator_keys_are_the_recorded_ones(studio: Studio) -> None:
    with studio.open() as socket:
        started = begin(socket, start="scene-drawer-open", beside=True)
        assert (started["length"], started["beside"]) == (4, True)
        header, picture = see(socket)
        assert picture.shape == (128, 256, 3)
        assert len(header["psnr"]) == 1
        for number, key in enumerate(KEYS):
            header, picture = step(socket, number, "near")
            assert header["key"] == key
            assert picture.shape == (512, 256, 3)
            model, simulator = picture[:, :128].astype(float), picture[:, 128:].astype(float)
            assert np.abs(simulator - 99).max() < 4
            error = np.square(model - simulator).mean()
            assert header["still"] == [60.0] * 4
            assert header["psnr"] == pytest.approx([10 * np.log10(255**2 / error)] * 4, abs=0.1)
        say(socket, {"type": "step", "number": 9, "key": "near"})
        assert hear(socket, "refused")["why"] == "The recording is at its end."


def test_a_recording_is_played_again(studio: Studio) -> None:
    with studio.open() as socket:
        begin(socket)
        see(socket)
        say(socket, {"type": "save"})
        assert "no key was pressed" in hear(socket, "refused")["why"]
        seen = [step(socket, 0, "left")[1]]
        say(socket, {"type": "change", "block": "1x16x16"})
        hear(socket, "changed")
        seen.append(step(socket, 1, "up")[1])
        say(socket, {"type": "save"})
        saved = hear(socket, "saved")
        assert saved["recording"]["keys"] == "left up"
        assert len(json.dumps(saved["recording"])) < 4096
        started = begin(socket, start=saved["id"], block="1x4x16")
        assert (started["is_replay"], started["length"], started["note"]) == (True, 2, "")
        see(socket)
        again = [step(socket, number, "stay") for number in range(2)]
        assert [header["key"] for header, _ in again] == ["left", "up"]
        assert all((new == old).all() for (_, new), old in zip(again, seen, strict=True))
        say(socket, {"type": "change", "temperature": 1.0})
        assert "A replay keeps" in hear(socket, "refused")["why"]


def test_a_replay_goes_on_after_a_fault(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with studio.open() as socket:
        begin(socket)
        see(socket)
        seen = [step(socket, number, key)[1] for number, key in enumerate(("left", "up"))]
        say(socket, {"type": "save"})
        begin(socket, start=hear(socket, "saved")["id"])
        see(socket)
        with monkeypatch.context() as patched:
            patched.setattr("tests.support.engine.HUES", {})
            for _ in range(2):
                say(socket, {"type": "step", "number": 0, "key": "stay"})
                assert "fault in the studio" in hear(socket, "refused")["why"]
        again = [step(socket, number, "stay")[1] for number in range(2)]
        assert all((new == old).all() for new, old in zip(again, seen, strict=True))


def test_a_recording_of_keys_that_the_model_lacks_does_not_begin(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with studio.open() as socket:
        begin(socket)
        see(socket)
        step(socket, 0, "left")
        say(socket, {"type": "save"})
        saved = hear(socket, "saved")["id"]
        monkeypatch.setitem(PLAY_KEYS, "arm", ("stay",))
        say(socket, BEGIN | {"start": saved})
        assert hear(socket, "refused")["why"].startswith("unknown key 'left'")


def test_an_iterator_at_its_end_is_a_fault_and_nobody_waits(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with studio.open() as socket:
        begin(socket)
        see(socket)
        monkeypatch.setattr(FakePlay, "step", lambda *_: next(iter(())))
        say(socket, {"type": "step", "number": 0, "key": "left"})
        assert "fault in the studio" in hear(socket, "refused")["why"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"start": "none"}, "was removed"),
        ({"model": "none"}, "There is no model 'none'"),
        ({"beside": True}, "no simulator frames"),
    ],
)
def test_what_cannot_begin_is_a_sentence(studio: Studio, change: dict[str, Any], why: str) -> None:
    with studio.open() as socket:
        say(socket, BEGIN | change)
        assert why in hear(socket, "refused")["why"]
        begin(socket)


def test_a_model_without_keys_says_so(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePipeline, "worlds", ("camera",))
    with studio.open() as socket:
        say(socket, BEGIN)
        assert hear(socket, "refused")["why"] == "model 'fake' has no keys for the arm world"


def test_a_fault_is_told_without_its_words(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with studio.open() as socket:
        begin(socket)
        see(socket)
        monkeypatch.setattr("tests.support.engine.HUES", {})
        say(socket, {"type": "step", "number": 0, "key": "left"})
        assert "fault in the studio" in hear(socket, "refused")["why"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "left", '{"type": "jump"}', json.dumps({**BEGIN, "temperature": "hot"}),
        json.dumps({**BEGIN, "path": "/etc/passwd"}), json.dumps({**BEGIN, "seed": 1.5}),
        '{"type": "step", "number": 0, "key": "' + 41 * "x" + '"}',
        '{"type": "step", "number": NaN, "key": "left"}', "[" * 10_000,
    ],
)  # fmt: skip
def test_what_no_page_says_ends_the_connection(studio: Studio, text: str) -> None:
    with studio.open() as socket:
        socket.send(text)
        assert hear(socket, "ended")["why"].endswith(".")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_bytes_and_large_messages_end_the_connection(studio: Studio) -> None:
    for data, code in ((b"left", 1008), ("x" * (MAX_MESSAGE_BYTES + 1), 1009)):
        with studio.open() as socket:
            socket.send(data)
            with pytest.raises(ConnectionClosed) as closed:
                hear_all(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


def test_a_flood_ends_the_connection(studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    with studio.open() as socket:
        begin(socket)
        with pytest.raises(ConnectionClosed):
            flood(socket)
    (play,) = studio.pipeline.plays
    until(lambda: play.is_closed)
    assert len(play.pressed) < 20


def test_a_page_that_asks_too_fast_waits(studio: Studio) -> None:
    with studio.open() as socket:
        begin(socket)
        see(socket)
        begun = time.monotonic()
        for number in range(18):
            step(socket, number, "left")
        assert time.monotonic() - begun > 1.5


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_are_refused(studio: Studio, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, studio.open(origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_other_names_are_refused(studio: Studio) -> None:
    headers = {"Host": "rebound.example"}
    with pytest.raises(InvalidStatus), studio.open(additional_headers=headers):
        pass


def test_only_visitors_with_the_password_play(tmp_path: Path) -> None:
    for studio in serve(tmp_path, auth=("user", "secret")):
        with pytest.raises(InvalidStatus), studio.open():
            pass
        login = {"username": "user", "password": "secret"}
        signed_in = httpx.post(f"{studio.url}login", data=login)
        cookie = "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())
        with studio.open(additional_headers={"Cookie": cookie}) as socket:
            begin(socket)


def test_a_player_ends_with_its_connection(studio: Studio) -> None:
    threads = threading.active_count()
    for _ in range(3):
        socket = studio.open()
        begin(socket)
        see(socket)
        say(socket, {"type": "step", "number": 0, "key": "left"})
        socket.close()
    until(lambda: all(play.is_closed for play in studio.pipeline.plays))
    # A connection that is cut off in the middle of everything.
    socket = studio.open()
    begin(socket)
    socket.socket.close()
    until(lambda: all(play.is_closed for play in studio.pipeline.plays))
    assert len(studio.pipeline.plays) == 4
    until(lambda: threading.active_count() <= threads + 2)


def test_nothing_is_begun_for_pages_that_have_gone(studio: Studio) -> None:
    """Somebody loads the page anew, again and again, while the engine is taken."""
    with studio.session.turns.take():
        for _ in range(3):
            with studio.open() as socket:
                say(socket, BEGIN)
                time.sleep(0.2)  # until the studio has read it
        time.sleep(1)  # until it has seen that they have gone, also on a busy machine
    with studio.open() as socket:
        begin(socket)
        assert len(studio.pipeline.plays) == 1


def test_two_visitors_have_turns(studio: Studio) -> None:
    studio.pipeline.step_s = 0.05
    with studio.open() as one, studio.open() as other:
        for socket in (one, other):
            begin(socket)
            see(socket)
        order: list[str] = []
        together = threading.Barrier(2)

        def play(socket: Connection, name: str, key: str) -> None:
            together.wait(PATIENCE_S)
            for number in range(8):
                header, picture = step(socket, number, key)
                order.append(name)
                assert header["players"] == 2
                assert (picture[..., 0] == HUES[key]).all(), "nobody sees the other's frames"

        threads = [
            threading.Thread(target=play, args=args)
            for args in ((one, "one", "left"), (other, "other", "up"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = [order[:n].count("one") - order[:n].count("other") for n in range(len(order))]
    assert max(map(abs, counts)) <= 2
    assert order.count("one") == order.count("other") == 8


def test_one_too_many_waits_until_somebody_goes(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(players, "MAX_PLAYERS", 1)
    with studio.open() as first:
        begin(first)
        with studio.open() as second:
            say(second, BEGIN)
            waiting = json.loads(second.recv(timeout=PATIENCE_S))
            assert (
                waiting["why"]
                == "The engine is taken by 1 other player. You are number 1 in the queue."
            )
            first.close()
            hear(second, "started")


def test_who_does_not_play_makes_room(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(players, "MAX_PLAYERS", 1)
    monkeypatch.setattr(players, "IDLE_S", 0.2)
    with studio.open() as first:
        begin(first)
        see(first)
        with studio.open() as second:
            begin(second)
            assert "Someone else was waiting" in hear(first, "ended")["why"]


@pytest.mark.parametrize(("steps", "patience_s"), [(2, 600), (4, 1)])
def test_who_reads_nothing_makes_room(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, steps: int, patience_s: float
) -> None:
    """Such as a laptop that went to sleep, between two answers or in the middle of one."""
    monkeypatch.setattr(players, "MAX_PLAYERS", 1)
    monkeypatch.setattr(players, "IDLE_S", 0.2)
    monkeypatch.setattr("app.sockets.MAX_SEND_S", patience_s)
    monkeypatch.setattr("app.play.socket.frames_bytes", lambda *_: bytes(16 * 2**20))
    options = {"compression": None, "max_size": None, "max_queue": 1, "close_timeout": 0.1}
    with studio.open(**options) as first, studio.open() as second:
        begin(first)
        for number in range(steps):
            say(first, {"type": "step", "number": number, "key": "left"})
        say(second, BEGIN)
        hear(second, "started")
        until(lambda: studio.pipeline.plays[0].is_closed)


def test_who_is_sent_away_in_the_middle_of_an_answer_leaves_no_fault(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(players, "MAX_PLAYERS", 1)
    with studio.open() as first:
        begin(first)
        see(first)
        studio.pipeline.step_s = 1.0
        say(first, {"type": "step", "number": 0, "key": "left"})
        time.sleep(0.2)  # until it is under way
        monkeypatch.setattr(players.Players, "_idle", lambda self: self._seated[:])
        with studio.open() as second:
            say(second, BEGIN)
            assert "Someone else was waiting" in hear(first, "ended")["why"]
            monkeypatch.undo()
            hear(second, "started")
    assert caplog.messages == []


def test_who_waited_long_for_a_place_keeps_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the time in the queue nor the time until the first answer counts as idle."""
    monkeypatch.setattr(players, "MAX_PLAYERS", 1)
    monkeypatch.setattr(players, "IDLE_S", 0.3)
    monkeypatch.setattr(players, "LOOK_S", 0.05)
    play = FakePipeline.play

    def slow(*arguments: Any) -> Any:
        time.sleep(0.8)
        return play(*arguments)

    monkeypatch.setattr(FakePipeline, "play", slow)
    with studio.open() as first:
        begin(first)
        with studio.open() as second, studio.open() as third:
            for socket in (second, third):
                say(socket, BEGIN)
            for number in range(6):  # longer than IDLE_S
                step(first, number, "left")
                time.sleep(0.1)
            first.close()
            hear(second, "started")
            see(second)
            for number in range(4):
                step(second, number, "left")
            second.close()
            hear(third, "started")


def test_a_job_and_a_player_share_the_engine(studio: Studio) -> None:
    steps: list[float] = []

    def work(job: Any) -> None:
        while job.wait_turn() and len(steps) < 200:
            steps.append(time.monotonic())
            time.sleep(0.01)

    job = studio.session.jobs.submit(work)
    until(lambda: bool(steps))
    with studio.open() as socket:
        begin(socket)
        see(socket)
        for number in range(4):
            step(socket, number, "left")
        assert not job.finished.is_set()
    job.stop.set()
    assert job.finished.wait(PATIENCE_S)


def test_what_a_player_waits_for_is_told(studio: Studio) -> None:
    release = threading.Event()
    job = studio.session.jobs.submit(lambda job: release.wait(PATIENCE_S))
    with studio.open() as socket:
        say(socket, BEGIN)
        assert "A run of another tab" in hear(socket, "waiting")["why"]
        release.set()
        hear(socket, "started")
    assert job.finished.wait(PATIENCE_S)

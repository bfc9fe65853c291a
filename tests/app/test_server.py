"""The studio as a server: its API, what it refuses, and that a page finds its run again."""

from __future__ import annotations

import asyncio
import html
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio import route_utils
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from gradio_client.exceptions import AppError  # type: ignore[import-untyped]
from PIL import Image

from app import ui
from app.clips.form import Form
from app.models.listing import model_list
from app.parts import api
from app.security import check_host, check_tools, default_host, parse_auth
from app.session import Session
from nbp_core.media.video import read_video
from tests.support.broken_models import add_broken
from tests.support.engine import VALUES, FakePipeline, add_model, fake_session, small_clips
from tests.support.models import save_pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def studio(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Session, FakePipeline]]:
    session, pipeline = fake_session(tmp_path_factory.mktemp("studio") / "models", step_s=0)
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    with small_clips():
        yield url, session, pipeline
    blocks.close()
    session.close()


@pytest.fixture(scope="module")
def client(studio: tuple[str, Session, FakePipeline]) -> Client:
    return Client(studio[0], verbose=False)


def test_few_endpoints_are_public(client: Client) -> None:
    info: Any = client.view_api(return_format="dict", print_info=False)
    assert sorted(info["named_endpoints"]) == ["/attention", "/compare", "/generate", "/tokenize"]
    names = [p["parameter_name"] for p in info["named_endpoints"]["/generate"]["parameters"]]
    assert names[:4] == ["model", "start", "action", "picture"]
    assert info["unnamed_endpoints"] == {}


def test_the_defaults_of_calls_are_those_of_the_form(client: Client) -> None:
    info: Any = client.view_api(return_format="dict", print_info=False)
    found = {
        name: {p["parameter_name"]: p["parameter_default"] for p in endpoint["parameters"]}
        for name, endpoint in info["named_endpoints"].items()
    }
    of_form = {**Form().to_dict(), "model": "fake"}
    assert found["/generate"] == of_form
    shared = {k: v for k, v in of_form.items() if k not in ("block", "num_frames", "actions")}
    assert found["/compare"] == {"first": "1x1x1", "second": "1x1x16", **shared}
    for name in ("/generate", "/compare"):
        parameters = info["named_endpoints"][name]["parameters"]
        assert all(p["parameter_has_default"] for p in parameters)


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("/generate", ["clip", "settings"]),
        ("/compare", ["first", "second", "figures"]),
        ("/attention", ["map", "weights", "settings"]),
        ("/tokenize", ["reconstruction", "figures"]),
    ],
)
def test_every_value_of_a_call_is_described_and_every_answer_has_a_name(
    client: Client, name: str, answers: list[str]
) -> None:
    info: Any = client.view_api(return_format="dict", print_info=False)
    endpoint = info["named_endpoints"][name]
    assert [answer["label"] for answer in endpoint["returns"]] == answers
    for parameter in endpoint["parameters"]:
        assert 5 < len(parameter["python_type"]["description"]) < 130, parameter["label"]
        assert parameter["type"]["description"] == parameter["python_type"]["description"]


def test_a_layer_is_documented_as_a_whole_number_and_what_is_needed_as_required(
    client: Client,
) -> None:
    info: Any = client.view_api(return_format="dict", print_info=False)
    types: dict[str, str] = {}
    needed: dict[str, list[str]] = {}
    for name in ("/attention", "/tokenize"):
        parameters = info["named_endpoints"][name]["parameters"]
        types |= {p["parameter_name"]: p["python_type"]["type"] for p in parameters}
        needed[name] = [p["label"] for p in parameters if not p["parameter_has_default"]]
    assert (types["layer"], types["model"]) == ("int", "str")
    assert needed == {"/attention": ["clip"], "/tokenize": ["file"]}


def test_numbers_to_choose_from_are_documented_as_numbers_and_taken_as_text_too(
    client: Client,
) -> None:
    info: Any = client.view_api(return_format="dict", print_info=False)
    (length,) = [
        parameter
        for parameter in info["named_endpoints"]["/generate"]["parameters"]
        if parameter["parameter_name"] == "num_frames"
    ]
    assert (length["type"]["type"], length["python_type"]["type"]) == ("integer", "int")
    assert length["type"]["description"] == "17, 33 or 65"
    for value in (33, 33.0, "33"):
        clip, _ = client.predict(**{**VALUES, "num_frames": value}, api_name="/generate")
        assert len(read_video(Path(clip))[0]) == 33


def test_generate_gives_a_clip_and_the_settings_that_repeat_it(
    client: Client,
) -> None:
    clip, settings = client.predict(seed=5, action="drawer-close", api_name="/generate")
    again, _ = client.predict(seed=5, action="drawer-close", api_name="/generate")
    assert len(read_video(clip)[0]) == 17
    assert (settings["sampling"]["seed"], settings["action"]) == (5, "drawer-close")
    assert Path(clip).read_bytes() == Path(again).read_bytes()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"seed": "7"}, 'seed must be a whole number, not "7"'),
        ({"seed": -1}, "seed must be a whole number from 0 to 2^63 - 1, not -1"),
        ({"top_k": None}, "top_k must be a whole number, not null"),
        ({"top_k": 10.5}, "top_k must be a whole number, not 10.5"),
        ({"temperature": "hot"}, 'temperature must be a number, not "hot"'),
        ({"temperature": [1]}, "temperature must be a number, not [1]"),
        ({"guidance": True}, "guidance must be a number, not true"),
        ({"top_p": 2}, "top_p must be above 0 and at most 1, not 2"),
        ({"num_frames": "18"}, 'num_frames must be a whole number, not "18"'),
        ({"num_frames": 21}, "num_frames must be one of 17, 33, 65, not 21"),
        (
            {"actions": "door-open*x"},
            "'door-open*x' is not a name and a number of times, such as left*4 or 'open drawer'*4",
        ),
        ({"actions": "door-open*65"}, "Actions may last 64 latent frames in all, not 65."),
        ({"start": "photo"}, 'start must be "action", "frame" or "clip", not "photo"'),
        ({"block": None}, "block must be text, not null"),
        ({"action": 3}, "action must be text, not 3"),
        ({"model": {"name": "fake"}}, 'model must be text, not {"name": "fake"}'),
    ],
)
def test_a_value_of_another_type_is_a_sentence_that_names_it(
    studio: tuple[str, Session, FakePipeline], value: dict[str, Any], sentence: str
) -> None:
    url, session, _ = studio
    said = httpx.get(f"{url}gradio_api/call/generate/{call(url, **value)}", timeout=100).text
    assert "event: error" in said
    assert json.loads(said.rpartition("data: ")[2])["error"] == sentence
    assert session.jobs.length == 0


UPLOAD = (
    'an uploaded file, handle_file("...") in Python and {"path": "...", "meta": {"_type":'
    ' "gradio.FileData"}} in JSON'
)
SEE = " The API's page lists the calls and their values."


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("generate", {"sede": 3}, f"This call has no parameter sede.{SEE}"),
        ("tokenize", {}, f"This call needs the parameter file.{SEE}"),
        ("other", {"sede": 3}, f"The studio cannot read this request.{SEE}"),
    ],
)
def test_a_call_with_wrong_names_is_told_which(
    studio: tuple[str, Session, FakePipeline], name: str, value: dict[str, Any], sentence: str
) -> None:
    answer = httpx.post(f"{studio[0]}gradio_api/call/v2/{name}", json=value)
    assert (answer.status_code, answer.text) == (400, sentence)


def test_a_call_with_too_few_values_is_told_how_many(
    studio: tuple[str, Session, FakePipeline],
) -> None:
    url = f"{studio[0]}gradio_api/call/generate"
    event = httpx.post(url, json={"data": ["fake"]}).json()["event_id"]
    said = httpx.get(f"{url}/{event}", timeout=100).text
    assert f"This call needs {len(VALUES)} values in order, not 1." in said


def test_an_address_in_place_of_a_file_is_told_apart(client: Client) -> None:
    with pytest.raises(AppError, match="downloads no files: upload the file itself"):
        client.predict(file=handle_file("https://studio.example/a.png"), api_name="/tokenize")


def test_the_examples_of_the_api_name_no_other_machine(client: Client) -> None:
    info = httpx.get(f"{client.src}gradio_api/info").text
    assert "file=handle_file('/path/to/your/file')" in info
    assert 'fetch(\\"/path/to/your/file\\")' in info
    assert "https://" not in info


@pytest.mark.parametrize("name", ["picture", "clip"])
@pytest.mark.parametrize(
    "value", [5, "x", [], True, {"path": 5}, {"path": "/etc/passwd"}, {"path": "a\n<b>"}]
)
def test_what_is_no_upload_is_a_sentence_and_a_line_of_the_log(
    studio: tuple[str, Session, FakePipeline],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: Any,
) -> None:
    url = studio[0]
    sent = {**value, "meta": {"_type": "gradio.FileData"}} if isinstance(value, dict) else value
    said = httpx.get(f"{url}gradio_api/call/generate/{call(url, **{name: sent})}", timeout=100).text
    error = html.unescape(json.loads(said.rpartition("data: ")[2])["error"])
    assert error.startswith(f"{name} must be {UPLOAD}, not {json.dumps(sent)[:30]}")
    (message,) = (record.getMessage() for record in caplog.records if record.name.endswith(".api"))
    assert message.startswith("values for ")
    assert "\n" not in message
    assert "Traceback" not in capfd.readouterr().err


def test_a_call_without_a_model_names_those_there_are(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "teal.png")
    with pytest.raises(AppError, match=r"^Choose a model: fake\.$"):
        client.predict(model=None, file=handle_file(tmp_path / "teal.png"), api_name="/tokenize")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"clip": None}, "clip must be a file: a clip or a picture"),
        ({"model": 3}, "model must be text, not 3"),
        ({"model": "other"}, "There is no model 'other' in the folder 'models'."),
        ({"action": ["x"]}, 'action must be text, not ["x"]'),
        ({"block": None}, "block must be text, not null"),
        ({"layer": None}, "layer must be a whole number, not null"),
        ({"layer": "x"}, 'layer must be a whole number, not "x"'),
        ({"layer": 1.5}, "layer must be a whole number, not 1.5"),
        ({"layer": True}, "layer must be a whole number, not true"),
        ({"layer": {}}, "layer must be a whole number, not {}"),
        ({"head": None}, "head must be text, not null"),
    ],
)
def test_attention_names_a_value_of_another_type(
    studio: tuple[str, Session, FakePipeline], tmp_path: Path, value: dict[str, Any], sentence: str
) -> None:
    url = studio[0]
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "teal.png")
    with (tmp_path / "teal.png").open("rb") as file:
        path = httpx.post(f"{url}gradio_api/upload", files={"files": file}).json()[0]
    values = {
        "clip": {"path": path, "meta": {"_type": "gradio.FileData"}}, "model": "fake", "action": "",
        "block": "1x1x16", "layer": 1, "head": "mean", **value,
    }  # fmt: skip
    address = f"{url}gradio_api/call/attention"
    event = httpx.post(address, json={"data": list(values.values())}).json()["event_id"]
    said = httpx.get(f"{address}/{event}", timeout=100).text
    assert json.loads(said.rpartition("data: ")[2])["error"] == sentence


def test_whole_numbers_may_be_written_with_a_point(
    studio: tuple[str, Session, FakePipeline],
) -> None:
    _, settings = answer(studio[0], call(studio[0], seed=5.0, num_frames=17.0, top_k=9.0))
    sampling = settings["sampling"]
    assert (sampling["seed"], sampling["top_k"], settings["num_frames"]) == (5, 9, 17)


def test_a_model_added_meanwhile_is_known_at_once(
    client: Client, studio: tuple[str, Session, FakePipeline]
) -> None:
    with pytest.raises(AppError, match="There is no model 'added' in the folder 'models'"):
        client.predict(model="added", api_name="/generate")
    add_model(studio[1].models, "added")
    assert client.predict(model="added", block="1x16x16", api_name="/generate")[1]["generated"]


def test_generate_from_a_picture(client: Client, tmp_path: Path) -> None:
    Image.new("L", (31, 77)).save(tmp_path / "grey.png")
    _, settings = client.predict(
        start="frame", picture=handle_file(tmp_path / "grey.png"), api_name="/generate"
    )
    assert settings["num_frames"] == 17


def test_uploads_outlive_another_studio_of_the_process(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "teal.png")
    picture = handle_file(tmp_path / "teal.png")
    other, _ = fake_session(tmp_path / "other")
    assert client.predict(file=picture, api_name="/tokenize")[1]["source"] == "teal.png"
    other.close()
    assert client.predict(file=picture, api_name="/tokenize")[1]["source"] == "teal.png"


def test_folders_removed_meanwhile_are_made_again(
    client: Client, studio: tuple[str, Session, FakePipeline], tmp_path: Path
) -> None:
    session = studio[1]
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "teal.png")
    for _ in range(2):
        for folder in (session.outputs, session.uploads):
            shutil.rmtree(folder)
        picture = handle_file(tmp_path / "teal.png")
        clip, _ = client.predict(start="frame", picture=picture, api_name="/generate")
        assert len(read_video(clip)[0]) == 17
        modes = [folder.stat().st_mode & 0o777 for folder in (session.outputs, session.uploads)]
        assert modes == [0o700, 0o700]


def test_a_bad_upload_is_one_sentence_without_a_path(client: Client, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with pytest.raises(AppError) as error:
        client.predict(
            start="frame", picture=handle_file(tmp_path / "torn.png"), api_name="/generate"
        )
    assert "torn.png is damaged" in str(error.value)
    assert "/" not in str(error.value)


def test_a_crash_is_told_and_survived(
    client: Client, studio: tuple[str, Session, FakePipeline]
) -> None:
    studio[2].fault_at = 0
    with pytest.raises(AppError, match="failed because of a fault"):
        client.predict(api_name="/generate")
    studio[2].fault_at = None
    assert client.predict(api_name="/generate")[1]["model"] == "fake"


def test_other_sites_and_other_names_are_refused(studio: tuple[str, Session, FakePipeline]) -> None:
    url = studio[0]
    assert httpx.get(url).status_code == 200
    upload = {"files": ("a.txt", b"x")}
    foreign = {"origin": "http://elsewhere.example"}
    assert httpx.post(f"{url}gradio_api/upload", files=upload, headers=foreign).status_code == 403
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert httpx.post(f"{url}gradio_api/upload", files=upload, headers=embedded).status_code == 403
    assert httpx.get(url, headers={"host": "rebound.example"}).status_code == 400
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert httpx.get(url, headers=linked).status_code == 200


def test_no_file_outside_is_served(studio: tuple[str, Session, FakePipeline]) -> None:
    for path in ("/etc/passwd", str(ROOT / "app.py"), str(studio[1].models / "fake/config.json")):
        assert httpx.get(f"{studio[0]}gradio_api/file={path}").status_code in (403, 404)


def test_a_host_without_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set --auth USER:PASS"):
        check_host("0.0.0.0", None)
    check_host("0.0.0.0", parse_auth("user:pa:ss"))
    check_host("localhost", None)
    check_host("LocalHost", None)
    with pytest.raises(ValueError, match="USER:PASS"):
        parse_auth("user")


def test_a_space_is_served_where_its_gate_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_host() == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "somebody/studio")
    assert default_host() == "0.0.0.0"
    check_host(default_host(), None)


def test_tools_without_their_package_are_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.security.find_spec", lambda name: None)
    check_tools(False)
    with pytest.raises(ValueError, match=r"pip install 'gradio\[mcp\]'\.$"):
        check_tools(True)


def call(url: str, **values: Any) -> str:
    """Asks for a clip without a client, which takes seconds to build; the event to wait for."""
    body = {"data": list({**VALUES, **values}.values())}
    return str(httpx.post(f"{url}gradio_api/call/generate", json=body).json()["event_id"])


def answer(url: str, event: str) -> list[Any]:
    """What came of it: the clip's file and the settings."""
    said = httpx.get(f"{url}gradio_api/call/generate/{event}", timeout=100).text
    assert "event: complete" in said, said
    data = said.rpartition("data: ")[2]
    found: list[Any] = json.loads(data)
    return found


def test_eight_visitors_at_once_are_served_in_order(
    studio: tuple[str, Session, FakePipeline],
) -> None:
    url, session, pipeline = studio
    pipeline.step_s = 0.002
    calls = [call(url, seed=seed, block="1x16x16") for seed in range(8)]
    answers = [answer(url, event) for event in calls]
    pipeline.step_s = 0
    assert [settings["sampling"]["seed"] for _, settings in answers] == list(range(8))
    assert len({httpx.get(clip["url"]).content for clip, _ in answers}) == 8
    outcomes = [view.result for view in reversed(session.jobs.finished())][-8:]
    assert {outcome.manifest["sampling"]["seed"] for outcome in outcomes} == set(range(8))
    written = [outcome.settings.stat().st_mtime_ns for outcome in outcomes]
    assert written == sorted(written), "first come, first served"


def test_what_a_page_shows_can_be_had_for_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(app: Any, frequency: int, age: int) -> None:
        """Gradio's look for old files, at once and as if two days had passed."""
        while True:
            await asyncio.sleep(0.1)
            route_utils.delete_files_created_by_app(app.get_blocks(), age - 2 * 86_400)

    monkeypatch.setattr(route_utils, "delete_files_on_schedule", look)
    session, _ = fake_session(tmp_path / "models", step_s=0)
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    clip, _ = answer(url, call(url))
    time.sleep(0.5)
    assert httpx.get(clip["url"]).status_code == 200
    blocks.close()
    session.close()


@pytest.fixture
def slow(studio: tuple[str, Session, FakePipeline]) -> Iterator[tuple[str, Session]]:
    """A studio where a run of single tokens takes a minute."""
    url, session, pipeline = studio
    pipeline.step_s = 0.05
    yield url, session
    pipeline.step_s = 0


def assert_soon_idle(session: Session) -> None:
    deadline = time.monotonic() + 20
    while session.jobs.length:
        assert time.monotonic() < deadline, "the run goes on, though nobody waits for it"
        time.sleep(0.05)


def test_a_cancelled_call_ends_its_run(slow: tuple[str, Session], client: Client) -> None:
    running = client.submit(block="1x1x1", api_name="/generate")
    while slow[1].jobs.length == 0:
        time.sleep(0.01)
    running.cancel()
    assert_soon_idle(slow[1])


@pytest.mark.parametrize("num_calls", [1, 3])
def test_a_caller_that_vanishes_ends_its_runs(slow: tuple[str, Session], num_calls: int) -> None:
    url, session = slow
    events = [call(url, block="1x1x1") for _ in range(num_calls)]
    streams = [f"{url}gradio_api/call/generate/{event}" for event in events]
    for stream in streams:
        with httpx.stream("GET", stream, timeout=60) as listening:
            next(listening.iter_lines())
    assert_soon_idle(session)


def join(url: str, **values: Any) -> str:
    """Asks for a clip as a page does; the event."""
    calls = httpx.get(f"{url}config").json()["dependencies"]
    index = next(one["id"] for one in calls if one["api_name"] == "generate")
    body = {
        "data": list({**VALUES, **values}.values()), "fn_index": index, "session_hash": "nobody",
    }  # fmt: skip
    return str(httpx.post(f"{url}gradio_api/queue/join", json=body).json()["event_id"])


def wait_until_runs(session: Session) -> None:
    deadline = time.monotonic() + 20
    while not session.jobs.length:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_calls_that_wait_leave_room_for_a_page(
    slow: tuple[str, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, session = slow
    monkeypatch.setattr(api, "MAX_CALLS", 3)
    events, body = [], {"data": list({**VALUES, "block": "1x1x1"}.values())}
    refused = httpx.Response(200)
    while refused.status_code == 200:
        refused = httpx.post(f"{url}gradio_api/call/generate", json=body)
        events += [refused.json()["event_id"]] if refused.status_code == 200 else []
    assert (refused.status_code, refused.json()["detail"]) == (503, api.QUEUE_FULL)
    assert len(events) >= 3 + api.CALLS["concurrency_limit"]

    config = httpx.get(f"{url}config").json()
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    (go,) = [one["id"] for one in config["components"] if one["props"].get("elem_id") == "go"]
    (begin,) = [one for one in config["dependencies"] if [go, "click"] in one["targets"]]
    pressed = {"data": [values[part] for part in begin["inputs"]], "fn_index": begin["id"]}
    for visitor in range(session.jobs.length, 17):
        pressed["session_hash"] = f"visitor {visitor}"
        assert httpx.post(f"{url}gradio_api/queue/join", json=pressed).status_code == 200
    deadline = time.monotonic() + 20
    while session.jobs.length < 17:
        assert time.monotonic() < deadline, "a page has no place in the queue"
        time.sleep(0.05)
    for job_id in [*session.jobs._jobs]:
        session.jobs.stop(job_id)
    for event in events:
        with httpx.stream("GET", f"{url}gradio_api/call/generate/{event}", timeout=60) as stream:
            next(stream.iter_lines())
    assert_soon_idle(session)


@pytest.mark.parametrize("post", [call, join])
def test_a_caller_that_never_listens_ends_its_run(
    slow: tuple[str, Session], post: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.parts.audience.PATIENCE_S", 1.0)
    url, session = slow
    event = post(url, block="1x1x1")
    wait_until_runs(session)
    assert_soon_idle(session)
    if post is call:
        said = httpx.get(f"{url}gradio_api/call/generate/{event}", timeout=20).text
        assert "event: error" in said
        assert "event: complete" not in said


def test_a_caller_that_listens_late_keeps_its_run(
    slow: tuple[str, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.parts.audience.PATIENCE_S", 3.0)
    url, session = slow
    event = call(url, block="1x1x1")
    wait_until_runs(session)
    time.sleep(1)
    begun = time.monotonic()
    with httpx.stream("GET", f"{url}gradio_api/call/generate/{event}", timeout=60) as listening:
        for _ in listening.iter_lines():
            if time.monotonic() - begun > 7:
                break
        assert session.jobs.length == 1, "somebody has read all the time"
    assert_soon_idle(session)


def test_importing_app_py_does_nothing() -> None:
    spec = importlib.util.spec_from_file_location("app_script", ROOT / "app.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_app_py_refuses_an_open_host_in_one_sentence() -> None:
    command = [sys.executable, "app.py", "--host", "0.0.0.0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Serving on 0.0.0.0 lets others in" in done.stderr
    assert "Traceback" not in done.stderr


def test_tokenize_gives_what_came_back_and_the_figures(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "teal.png")
    file, figures = client.predict(file=handle_file(tmp_path / "teal.png"), api_name="/tokenize")
    assert Image.open(file).size == (128, 128)
    assert figures["codes_used"] == 256
    assert figures["source"] == "teal.png"
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with pytest.raises(AppError, match=r"^torn\.png is damaged"):
        client.predict(file=handle_file(tmp_path / "torn.png"), api_name="/tokenize")


def test_the_studio_starts_beside_broken_models(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path)
    add_broken(tmp_path, folder / "model.safetensors")
    session = Session(tmp_path, "cpu")
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    assert httpx.get(url).status_code == 200
    assert "num_layers must be a whole number" in model_list(session)
    blocks.close()
    session.close()

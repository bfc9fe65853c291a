"""What the studio lets through: each route that Gradio registers, and each way to write a path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi.routing import iter_route_contexts
from gradio_client import Client  # type: ignore[import-untyped]
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app import ui
from app.guard import MAX_BODY_BYTES
from app.routes import FOR_ALL, FOR_SIGNED_IN, MAX_ADDRESS_BYTES, SOCKET, is_for_all, route_of
from app.session import Session
from nbp_core.media.video import read_video
from tests.support.engine import fake_session, small_clips

NOT_OFFERED = (404, "The studio does not offer this.")
REFUSED = """
GET HEAD /openapi.json
POST /login/
GET /logout
GET /svelte/{path:path}
GET /config/
GET /robots.txt
GET /pwa_icon
GET /pwa_icon/{size}
GET /monitoring
GET /monitoring/summary
GET /monitoring/{key}
HEAD /thumbs/{name:path}
GET /gradio_api/deep_link
GET /gradio_api/user
GET /gradio_api/user/
GET /gradio_api/login_check
GET /gradio_api/login_check/
GET /gradio_api/token
GET /gradio_api/token/
GET /gradio_api/app_id/
GET /gradio_api/dev/reload
GET /gradio_api/runs
GET /gradio_api/runs/
GET /gradio_api/custom_component/{id}/{environment}/{type}/{file_name}
GET HEAD /gradio_api/proxy={url_path:path}
POST /gradio_api/stream/{event_id}
POST /gradio_api/stream/{event_id}/close
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file
GET /gradio_api/file/{path:path}
POST /gradio_api/reset/
POST /gradio_api/api/{api_name}
POST /gradio_api/api/{api_name}/
POST /gradio_api/run/{api_name}/
POST /gradio_api/call/{api_name}/
POST /gradio_api/call/v2/{api_name}/
POST /gradio_api/component_server
GET /gradio_api/queue/status
GET /gradio_api/theme.css
POST /gradio_api/process_recording
POST /gradio_api/vibe-edit
POST /gradio_api/vibe-edit/
POST /gradio_api/undo-vibe-edit
POST /gradio_api/undo-vibe-edit/
GET POST /gradio_api/vibe-code
GET POST /gradio_api/vibe-code/
POST /gradio_api/vibe-starter-queries
POST /gradio_api/vibe-starter-queries/
"""
"""Routes of Gradio 6.31 that nobody needs here. A new one belongs here or into app/routes.py."""

ODD = [
    ("HEAD", "/config"), ("OPTIONS", "/"), ("OPTIONS", "*"), ("TRACE", "/"), ("PUT", "/"),
    ("DELETE", "/config"), ("get", "/"), ("GET", "/gradio_api/queue/join"),
    ("GET", "//config"), ("GET", "/config/"), ("GET", "/config//"), ("GET", "//gradio_api//info"),
    ("GET", "/CONFIG"), ("GET", "/Gradio_Api/info"), ("GET", "/config;x"), ("GET", "/./config"),
    ("GET", "/x/../config"), ("GET", "/config%00"), ("GET", "/config%0a"), ("GET", "/%2e/config"),
    ("GET", "/gradio_api/%74oken"), ("GET", "/%67radio_api/token"), ("GET", "/gradio_api%2ftoken"),
    ("GET", "/gradio_api/x/../token"), ("GET", "/gradio_api/heartbeat/x%0a"),
    ("GET", "http://127.0.0.1/config"), ("GET", "http://localhost/gradio_api/token"),
    ("GET", "/config?" + "a" * MAX_ADDRESS_BYTES), ("GET", "/config?" + "a" * 70_000),
    ("GET", "/assets/" + "a" * MAX_ADDRESS_BYTES),
]  # fmt: skip


COMPONENT = {"component_id": 1, "session_hash": "x", "fn_name": "token_odds", "data": "x"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Session, gr.Blocks]]:
    """Its address, its session and its page."""
    session, _ = fake_session(tmp_path_factory.mktemp("studio") / "models")
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    yield url.removeprefix("http://").rstrip("/"), session, blocks
    blocks.close()
    session.close()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio with a password."""
    session, _ = fake_session(tmp_path_factory.mktemp("locked") / "models", step_s=0)
    blocks = ui.build(session)
    auth = ("user", "secret")
    url = ui.launch(blocks, "127.0.0.1", None, auth, prevent_thread_lock=True, quiet=True)
    yield url.removeprefix("http://").rstrip("/")
    blocks.close()
    session.close()


def ask(address: str, target: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status and text of the answer to a target that is sent as it is written."""
    with closing(HTTPConnection(address, timeout=30)) as connection:
        connection.putrequest(method, target)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def pairs(lines: Iterator[tuple[list[str], str]]) -> set[tuple[str, str]]:
    return {(method, path) for methods, path in lines for method in methods}


def listed() -> set[tuple[str, str]]:
    """Method and path of every line of app/routes.py, but for those that are there with --mcp."""
    lines = (
        (methods.split(), path)
        for methods, path, _ in (*FOR_ALL, *FOR_SIGNED_IN)
        if "/mcp" not in path
    )
    return pairs(lines)


def refused() -> set[tuple[str, str]]:
    lines = (line.split() for line in REFUSED.split("\n") if line)
    return pairs((methods, path) for *methods, path in lines)


def registered(app: Any) -> set[tuple[str, str]]:
    """Method and path of every route of a running studio."""
    routes = ((route.methods or {SOCKET}, route.path) for route in iter_route_contexts(app.routes))
    return pairs((sorted(methods), path or "") for methods, path in routes)


def scope_of(method: str, path: str, **others: Any) -> dict[str, Any]:
    filled = re.sub(r"\{\w+(:path)?\}", "1", path)
    kind = "websocket" if method == SOCKET else "http"
    return {"type": kind, "method": method, "path": filled, "query_string": b"", **others}


def test_every_route_is_either_let_through_or_refused(
    studio: tuple[str, Session, gr.Blocks],
) -> None:
    found = registered(studio[2].app)
    assert found == listed() | refused()
    assert not listed() & refused()
    for method, path in found:
        assert route_of(scope_of(method, path)) == (path if (method, path) in listed() else None)


@pytest.mark.parametrize(("method", "path"), sorted(refused()))
def test_what_is_refused_is_one_sentence(
    studio: tuple[str, Session, gr.Blocks], method: str, path: str
) -> None:
    status, text = ask(studio[0], re.sub(r"\{\w+(:path)?\}", "1", path), method)
    assert (status, text) == (404, "" if method == "HEAD" else NOT_OFFERED[1])


@pytest.mark.parametrize(("method", "target"), ODD)
def test_other_ways_to_write_a_path_lead_nowhere(
    studio: tuple[str, Session, gr.Blocks], method: str, target: str
) -> None:
    status, text = ask(studio[0], target, method)
    assert (status, text) == (404, "" if method == "HEAD" else NOT_OFFERED[1])


def test_tools_for_agents_are_there_only_on_demand(studio: tuple[str, Session, gr.Blocks]) -> None:
    assert [ask(studio[0], f"/gradio_api/mcp{path}")[0] for path in ("", "/", "/schema")] == [
        404
    ] * 3


def test_a_path_may_be_percent_encoded(studio: tuple[str, Session, gr.Blocks]) -> None:
    assert ask(studio[0], "/%63onfig")[0] == 200
    assert ask(studio[0], "/config?" + "a" * 8000)[0] == 200


@pytest.mark.parametrize(
    ("path", "is_let_in"),
    [
        ("/studio/config", True), ("/studio/", True), ("/studio", True), ("/config", True),
        ("/studio/gradio_api/token", False), ("/studio/studio/config", False),
        ("/other/config", False), ("/studioconfig", False),
    ],
)  # fmt: skip
def test_a_proxy_may_leave_the_root_path_in(path: str, is_let_in: bool) -> None:
    assert (route_of(scope_of("GET", path, root_path="/studio")) is not None) == is_let_in


@pytest.mark.parametrize("path", ["/", "/config", "/play/socket/", "/gradio_api/queue/join", "/x"])
def test_only_players_open_a_websocket(studio: tuple[str, Session, gr.Blocks], path: str) -> None:
    client = TestClient(studio[2].app, headers={"host": studio[0]})
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect(path):
        pass
    assert closed.value.code == 1008
    with client.websocket_connect("/play/socket"):
        pass


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("run/unknown", {"json": {"data": []}}),
        ("run/predict", {"json": {"data": [], "fn_index": 99_999}}),
        ("queue/join", {"json": {"data": [], "fn_index": 99_999, "session_hash": "x"}}),
        ("call/unknown", {"json": {"data": []}}),
        ("call/v2/unknown", {"json": {}}),
        ("call/v2/generate", {"json": {"unknown": 1}}),
        ("component_server/", {"json": {**COMPONENT, "component_id": 99_999}}),
        ("component_server/", {"json": {**COMPONENT, "component_id": "x"}}),
        ("component_server/", {"files": {"x": b"x"}}),
        ("component_server/", {"files": {"x": b"x"}, "data": {**COMPONENT, "component_id": "x"}}),
    ],
)  # fmt: skip
def test_calls_of_what_is_not_there_are_refused(
    studio: tuple[str, Session, gr.Blocks], capfd: pytest.CaptureFixture[str], path: str, sent: Any
) -> None:
    answer = httpx.post(f"http://{studio[0]}/gradio_api/{path}", timeout=30, **sent)
    assert answer.status_code == 400
    assert re.fullmatch(r'[^"\n]{10,100}\.', answer.text.removeprefix('{"detail":"').rstrip('"}'))
    assert "Traceback" not in capfd.readouterr().err


LARGE = MAX_BODY_BYTES + 1


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data; boundary=x", "text/plain"]
)
@pytest.mark.parametrize(
    "path", ["component_server/", "run/predict", "queue/join", "call/generate"]
)
def test_a_large_request_is_refused_before_it_is_read(
    studio: tuple[str, Session, gr.Blocks], path: str, kind: str
) -> None:
    """The rest of it never comes, and is not waited for."""
    headers = {"content_type": kind, "content_length": str(LARGE)}
    told = ask(studio[0], f"/gradio_api/{path}", "POST", **headers)
    assert told == (413, "This request is too large: files are uploaded first.")


def test_a_large_request_that_tells_no_length_is_refused_while_it_comes(
    studio: tuple[str, Session, gr.Blocks],
) -> None:
    with closing(HTTPConnection(studio[0], timeout=30)) as connection:
        connection.putrequest("POST", "/gradio_api/component_server/")
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders()
        for _ in range(LARGE // 100_000 + 1):
            connection.send(b"%x\r\n%s\r\n" % (100_000, bytes(100_000)))
        assert connection.getresponse().status == 413


def test_a_request_just_within_the_limit_is_read(studio: tuple[str, Session, gr.Blocks]) -> None:
    page = studio[2].blocks
    steps = next(block for block in page.values() if hasattr(block, "token_odds"))
    sent = {**COMPONENT, "component_id": steps._id, "data": ""}
    sent["data"] = "x" * (MAX_BODY_BYTES - len(json.dumps(sent)))
    answer = httpx.post(
        f"http://{studio[0]}/gradio_api/component_server/", content=json.dumps(sent), timeout=30
    )
    assert answer.json() == {"note": "This clip was deleted."}


def test_files_of_the_folder_for_uploads_are_served(
    studio: tuple[str, Session, gr.Blocks],
) -> None:
    address, session, _ = studio
    file = session.uploads / "a folder" / "100% ünlike.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text("made here")
    path = str(file).replace("%", "%25").replace(" ", "%20").replace("ü", "%C3%BC")
    for target in (path, path.replace("/", "%2F")):
        assert ask(address, f"/gradio_api/file={target}") == (200, "made here")


def test_no_other_file_is_served(
    studio: tuple[str, Session, gr.Blocks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, session, blocks = studio
    others = tmp_path / "others"
    others.mkdir()
    (others / "secret.txt").write_text("of somebody else")
    # As GRADIO_ALLOWED_PATHS in the environment would do.
    monkeypatch.setattr(blocks, "allowed_paths", [str(tmp_path)])
    link = session.uploads / "link.txt"
    link.symlink_to(others / "secret.txt")
    (session.uploads / "folder").symlink_to(others)
    within, secret = session.uploads, str(others / "secret.txt")
    up = "/".join([".."] * (len(within.parts) - 1))
    for path in (
        secret, secret.replace("/", "%2F"), secret.replace("/", "%252F"), "/" + secret,
        f"{within}/{up}{secret}", f"{within}/{up}{secret}".replace("/", "%2f"), str(link),
        f"{within}/folder/secret.txt", f"{within}-other/x", f"{within}%00", "app.py", "./app.py",
        "../app.py", "", ".", "/proc/self/environ", "C:/Windows/win.ini", "C:%5CWindows%5Cwin.ini",
        "%5C%5Cother%5Cshare%5Cx", "//other/share/x", "file:///etc/passwd", f"file://{link}",
        "https://other.example/x.png", "HTTP://other.example/x", "%68ttps://other.example/x",
    ):  # fmt: skip
        assert ask(address, f"/gradio_api/file={path}") == NOT_OFFERED, path


@pytest.mark.parametrize(("method", "path"), sorted(listed() - {(SOCKET, "/play/socket")}))
def test_without_the_password_there_is_only_the_page_that_asks_for_it(
    locked: str, method: str, path: str
) -> None:
    # The rest of the request never comes, and is not waited for.
    body = {"content_length": "1000000"} if method == "POST" and not is_for_all(path) else {}
    status, text = ask(locked, re.sub(r"\{\w+(:path)?\}", "1", path), method, **body)
    if not is_for_all(path):
        sentence = "Sign in first: the studio has a password."
        assert (status, text) == (401, "" if method == "HEAD" else sentence)
    elif path == "/config":
        assert (status, json.loads(text)["detail"]["error"]) == (401, "Not authenticated")
    elif path == "/login":
        assert status == 422, "it lacks a name and a password"
    else:
        assert status == (404 if path.endswith("{path:path}") else 200)


def test_a_client_with_the_password_makes_a_clip(locked: str) -> None:
    client = Client(f"http://{locked}", auth=("user", "secret"), verbose=False)
    with small_clips():
        clip, _ = client.predict(api_name="/generate")
    assert len(read_video(clip)[0]) == 17

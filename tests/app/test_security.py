"""The guard in front of HTTP and WebSockets, and the addresses that the studio is served on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocket, WebSocketDisconnect

from app import ui
from app.guard import guards, host_name
from app.play.protocol import PATH
from app.security import check_address, check_host, parse_root_path, parse_trusted
from app.sockets import BURST, MAX_MESSAGE_BYTES
from tests.support.engine import fake_session

ROOT = Path(__file__).resolve().parents[2]
OWN = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}


async def echo(socket: WebSocket) -> None:
    """Answers every message with its length, until the visitor goes."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(str(len(await socket.receive_text())))
    except WebSocketDisconnect:
        pass


def echo_server(host: str = "127.0.0.1", trusted: tuple[str, ...] = ()) -> TestClient:
    routes = [WebSocketRoute(PATH, echo)]
    return TestClient(Starlette(routes=routes, middleware=guards(host, trusted)))


def answer(client: TestClient, headers: dict[str, str]) -> str:
    with client.websocket_connect(PATH, headers=headers) as opened:
        opened.send_text("four")
        return opened.receive_text()


def test_a_page_of_the_studio_opens_a_websocket() -> None:
    assert answer(echo_server(), OWN) == "4"
    assert answer(echo_server(), {"host": "[::1]:7860", "origin": "http://[::1]:7860"}) == "4"
    assert answer(echo_server(), {"host": "localhost:7860"}) == "4", "a program has no origin"
    proxied = {"host": "127.0.0.1:7860", "origin": "https://Studio.example"}
    assert answer(echo_server(trusted=("studio.example",)), proxied) == "4"
    anyhow = {"host": "tower.lan:7860", "origin": "http://tower.lan:7860"}
    assert answer(echo_server("0.0.0.0"), anyhow) == "4"
    assert answer(echo_server("Tower.lan", ("studio.example",)), anyhow) == "4"


@pytest.mark.parametrize(
    "headers",
    [
        {**OWN, "origin": "http://elsewhere.example"},
        {**OWN, "origin": "null"},
        {**OWN, "origin": "http://127.0.0.1:9999"},
        {**OWN, "sec-fetch-site": "cross-site"},
        {"host": "rebound.example", "origin": "http://rebound.example"},
        {"host": "127.0.0.1.rebound.example", "origin": "http://127.0.0.1.rebound.example"},
    ],
)
def test_other_sites_and_other_names_open_no_websocket(headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect) as refused:
        answer(echo_server(), headers)
    assert refused.value.code == 1008


@pytest.mark.parametrize("header", ["x-forwarded-host", "x-gradio-server"])
def test_nobody_says_that_the_studio_is_served_under_another_name(header: str) -> None:
    """Gradio would write it into the examples of the API, for all visitors to come."""
    own = {"host": "127.0.0.1:7860"}
    for name in ("other.example", "http://other.example", "other.example, studio.example", ""):
        assert echo_server(trusted=("studio.example",)).get(
            "/", headers=own | {header: name}
        ).text == ("The studio is not served under this name; --trusted-host NAME would add it.")


def test_a_proxy_says_under_which_name_it_serves_the_studio() -> None:
    client = echo_server(trusted=("studio.example",))
    for name in ("studio.example", "Studio.example:8443", "studio.example, inner.example"):
        headers = {"host": "127.0.0.1:7860", "x-forwarded-host": name}
        assert client.get("/", headers=headers).text == "Not Found", "this server has no page"


def test_a_large_message_closes_the_websocket() -> None:
    with echo_server().websocket_connect(PATH, headers=OWN) as opened:
        opened.send_text("x" * MAX_MESSAGE_BYTES)
        assert opened.receive_text() == str(MAX_MESSAGE_BYTES)
        opened.send_text("é" * (MAX_MESSAGE_BYTES // 2 + 1))
        with pytest.raises(WebSocketDisconnect) as closed:
            opened.receive_text()
    assert closed.value.code == 1009


def test_a_flood_closes_the_websocket() -> None:
    with echo_server().websocket_connect(PATH, headers=OWN) as opened:
        for _ in range(10 * BURST):
            opened.send_text("x")
        with pytest.raises(WebSocketDisconnect) as closed:
            _drain(opened)
    assert closed.value.code == 1008


def _drain(opened: WebSocketTestSession) -> None:
    for _ in range(10 * BURST):
        opened.receive_text()


def test_only_so_many_websockets_are_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.guard.MAX_SOCKETS", 1)
    client = echo_server()
    with client, client.websocket_connect(PATH, headers=OWN):
        with pytest.raises(WebSocketDisconnect) as refused:
            answer(client, OWN)
        assert refused.value.code == 1013
    with client:
        assert answer(client, OWN) == "4"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=https://other.example/x.png", "/gradio_api/file=HTTP://other.example/x",
        "/gradio_api/file/https://other.example/x", "/gradio_api/file=%68ttps://other.example/x",
        "/gradio_api/file=%2568ttps%253A//other.example/x", "/gradio_api/file%3Dhttp://other.example",
        "/studio/gradio_api/file=http://other.example/x", "/gradio_api/proxy=https://other.example",
        "/gradio_api/process_recording", "/gradio_api/vibe-code", "/gradio_api/dev/reload",
    ],
)  # fmt: skip
def test_paths_that_only_gradio_needs_are_refused(path: str) -> None:
    answer = echo_server().get(
        path, headers={"host": "127.0.0.1:7860", "sec-fetch-mode": "navigate"}
    )
    assert (answer.status_code, answer.text) == (404, "The studio does not offer this.")


@pytest.mark.parametrize(
    ("dest", "in_space", "is_refused"),
    [
        ("document", False, False), ("iframe", False, True), ("frame", False, True),
        ("object", False, True), ("embed", False, True), ("iframe", True, False),
    ],
)  # fmt: skip
def test_other_sites_link_to_the_studio_and_do_not_frame_it(
    dest: str, in_space: bool, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_space:
        monkeypatch.setenv("SPACE_ID", "someone/studio")
    fetch = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": dest}
    answer = echo_server().get("/", headers={"host": "127.0.0.1:7860", **fetch})
    assert answer.status_code == (403 if is_refused else 404)
    policy = answer.headers.get("content-security-policy")
    assert policy == (None if in_space else "frame-ancestors 'self'")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[TestClient, str]]:
    """A studio with a password and one WebSocket; and its address."""
    session, _ = fake_session(tmp_path / "models")
    blocks = ui.build(session)
    password = ("user", "secret")
    url = ui.launch(blocks, "127.0.0.1", None, password, prevent_thread_lock=True, quiet=True)
    blocks.app.router.routes.insert(0, WebSocketRoute(PATH, echo))
    yield TestClient(blocks.app), url
    blocks.close()
    session.close()


def test_a_websocket_is_only_for_visitors_with_the_password(locked: tuple[TestClient, str]) -> None:
    client, url = locked
    with pytest.raises(WebSocketDisconnect) as refused:
        answer(client, OWN)
    assert refused.value.code == 1008
    forged = {"cookie": "access-token=None; access-token-unsecure-x=None"}
    with pytest.raises(WebSocketDisconnect):
        answer(client, OWN | forged)
    signed_in = httpx.post(f"{url}login", data={"username": "user", "password": "secret"})
    cookies = "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())
    assert answer(client, OWN | {"cookie": cookies}) == "4"


def test_host_names_are_read_as_browsers_write_them() -> None:
    names = ["Studio.example", "studio.example:80", "[::1]:7860", "127.0.0.1:7860", "", "[::1"]
    assert [host_name(name) for name in names] == [
        "studio.example", "studio.example", "::1", "127.0.0.1", "", "",
    ]  # fmt: skip


def test_options_of_a_reverse_proxy_are_checked() -> None:
    assert parse_root_path("/studio/") == "/studio"
    assert parse_root_path("https://example.org/a/studio") == "https://example.org/a/studio"
    assert parse_root_path("/") is None
    assert parse_trusted(["Studio.example"]) == ["studio.example"]
    for path in ("studio", "", "ftp://example.org", "/a b", "/<script>"):
        with pytest.raises(ValueError, match="--root-path takes the path"):
            parse_root_path(path)
    for name in ("https://studio.example", "studio.example:80", "*", ""):
        with pytest.raises(ValueError, match="--trusted-host takes a host name"):
            parse_trusted([name])


def test_an_address_that_cannot_be_served_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"^Port \d+ is in use, .*--port\.$"):
            check_address("127.0.0.1", taken.getsockname()[1])
    for port in (99_999, 0, -1):
        with pytest.raises(ValueError, match=f"from 1 to 65535, not {port}"):
            check_address("127.0.0.1", port)
    for host in ("203.0.113.7", "no-such-host.invalid"):
        with pytest.raises(ValueError, match=f"--host {host} is not an address of this machine"):
            check_address(host, 17_860)


def test_what_is_no_address_is_told_so_before_a_password_is_asked_for() -> None:
    wrong = ("::1x", "[::1]", "127.0.0.1:7860", "http://127.0.0.1", "", "a b", "300.1.1.1",
             "127.0.0", "-a", "a..b", "a" * 64, "1.2.3.4.", "caf\udce9")  # fmt: skip
    for host in wrong:
        with pytest.raises(ValueError, match=r"^--host takes an IP address") as found:
            check_host(host, None)
        assert str(found.value).endswith(f"not {host!r}.")
    for host in ("127.0.0.1", "::1", "localhost", "fe80::1%eth0", "studio.example", "my_pc", "2nd"):
        check_host(host, ("user", "password"))


def serve(port: int, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """app.py in a process of its own, once it answers; its private folders are in `folder`."""
    models = folder / "models"
    models.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--models", str(models), "--host", "::1"],
        cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(folder), **environment},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"http://[::1]:{port}/config", trust_env=False)
            return process
        except httpx.TransportError:
            time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is POSIX's")
def test_app_py_serves_beside_proxies_and_tidies_up_at_sigterm(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        port = probe.getsockname()[1]
    dead = "127.0.0.1:9"
    proxies = {"ALL_PROXY": f"socks5://{dead}", "http_proxy": f"http://{dead}"}
    proxies |= {"HTTP_PROXY": f"http://{dead}", "https_proxy": f"http://{dead}"}
    process = serve(port, tmp_path, **proxies)
    assert list(tmp_path.glob("nbp-studio-*"))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("nbp-studio-*"))

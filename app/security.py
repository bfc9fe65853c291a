"""Who may reach the studio, and where it is served. Imports nothing slow: a refusal is quick."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.sockets import POLICY, TRY_LATER, GuardedSocket

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_SOCKETS = 32
"""WebSockets that may be open at once."""

_WRONG_HOST = "The studio is not served under this name; --trusted-host NAME would add it."
_FOREIGN = "Requests from other sites are refused."


class Guard:
    """Every request passes it first, HTTP and WebSocket alike.

    It refuses names that the studio is not served under (a foreign name that leads to this machine
    would let its pages in) and what pages of other sites send here through the visitor's browser. A
    WebSocket must also belong to a visitor who has signed in, and keeps to limits.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], trusted: Sequence[str]) -> None:
        """`hosts` are the names served under, none for any; `trusted` those of reverse proxies."""
        self.app = app
        self._hosts = hosts
        self._trusted = trusted
        self._num_sockets = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses by itself (400, 403, or a WebSocket closed with 1008), or hands on."""
        if scope["type"] == "http":
            refused = self._refused(HTTPConnection(scope))
            return await (refused or self.app)(scope, receive, send)
        if scope["type"] == "websocket":
            return await self._open_socket(scope, receive, send)
        await self.app(scope, receive, send)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        may_enter = self._refused(connection) is None and is_signed_in(connection)
        if not may_enter or self._num_sockets >= MAX_SOCKETS:
            await receive()
            code = POLICY if not may_enter else TRY_LATER
            return await send({"type": "websocket.close", "code": code})
        self._num_sockets += 1
        try:
            guarded = GuardedSocket(receive, send)
            await self.app(scope, guarded.receive, guarded.send)
        finally:
            self._num_sockets -= 1

    def _refused(self, connection: HTTPConnection) -> PlainTextResponse | None:
        headers = connection.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts and host_name(host) not in self._hosts:
            return PlainTextResponse(_WRONG_HOST, 400)
        foreign = origin is not None and not self._is_own(origin, host)
        embedded = (
            headers.get("sec-fetch-site") == "cross-site"
            and headers.get("sec-fetch-mode") != "navigate"
        )
        return PlainTextResponse(_FOREIGN, 403) if foreign or embedded else None

    def _is_own(self, origin: str, host: str) -> bool:
        # A reverse proxy may write its own target into Host, so its public name counts as well.
        authority = origin.split("//")[-1]
        return authority == host or host_name(authority) in self._trusted


def host_name(authority: str) -> str:
    """The name in 'name:port' or '[::1]:port', in lower case; empty if there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def is_signed_in(connection: HTTPConnection) -> bool:
    """Whether the visitor gave the studio's password, or none is wanted.

    Gradio checks this for its own routes, all of them HTTP, but not for a WebSocket.
    """
    app = connection.scope["app"]
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(connection.cookies.get(name) in app.tokens for name in names)


def guards(host: str, trusted_hosts: Sequence[str] = ()) -> list[Middleware]:
    """What every request passes first: only names of the studio, only pages of the studio."""
    # Names that others use for this machine are not known here; then, the password is the guard.
    is_open = host not in LOCAL_HOSTS and not trusted_hosts
    hosts = [] if is_open else [*LOCAL_HOSTS, host, *trusted_hosts]
    return [Middleware(Guard, hosts=hosts, trusted=trusted_hosts)]


def parse_auth(text: str | None) -> tuple[str, str] | None:
    """'USER:PASS' as a pair. Raises ValueError for anything else."""
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("--auth takes USER:PASS, both not empty.")
    return user, password


def parse_trusted(names: Sequence[str]) -> list[str]:
    """Host names as browsers send them. Raises ValueError for what is no bare host name."""
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(
                f"--trusted-host takes a host name, such as studio.example.org, not {name!r}."
            )
    return [name.lower() for name in names]


def parse_root_path(text: str | None) -> str | None:
    """'/studio' or 'https://example.org/studio', without an end slash. Raises ValueError else."""
    if text is None or text == "/":
        return None
    if not re.fullmatch(r"(https?://[\w.:-]+)?(/[\w.~-]+)*/?", text) or not text:
        raise ValueError(
            "--root-path takes the path that a reverse proxy serves the studio under, such as"
            f" /studio, not {text!r}."
        )
    return text.rstrip("/")


def is_space() -> bool:
    """Whether this runs as a Hugging Face Space, whose own gate decides who comes in."""
    return "SPACE_ID" in os.environ


def default_host() -> str:
    """This machine alone; in a Space, the address its gate asks for."""
    return "0.0.0.0" if is_space() else LOCAL_HOSTS[0]


def forget_proxies() -> None:
    """Takes proxies out of this process's environment.

    Gradio asks its own address whether it answers, and would ask the proxy. The studio calls nobody
    else, so no proxy is of use here.
    """
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


def check_tools(wanted: bool) -> None:
    """Raises ValueError when tools for agents (MCP) are wanted and their package is missing."""
    if wanted and find_spec("mcp") is None:
        raise ValueError("--mcp needs one more package: python -m pip install 'gradio[mcp]'.")


def check_host(host: str, auth: tuple[str, str] | None) -> None:
    """Raises ValueError for an address that others can reach while nobody is asked who they are."""
    if host not in LOCAL_HOSTS and auth is None and not is_space():
        raise ValueError(f"Serving on {host} lets others in: set --auth USER:PASS as well.")


def check_address(host: str, port: int) -> None:
    """Raises ValueError, one sentence, for an address that the studio cannot be served on."""
    if not 1 <= port <= 65_535:
        raise ValueError(f"--port takes a number from 1 to 65535, not {port}.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {host} is no address of this machine.") from error
    with closing(socket.socket(family, kind)) as probe:
        if os.name == "posix":  # a port that was left a moment ago counts as free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError as error:
            raise ValueError(
                f"Port {port} is kept for the system: choose one from 1024 with --port."
            ) from error
        except OSError as error:
            raise ValueError(_why_not_bound(host, port, error)) from error


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is in use, perhaps by another studio: stop that one, or choose"
            " another port with --port."
        )
    return f"--host {host} is no address of this machine."

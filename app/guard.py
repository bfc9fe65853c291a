"""What every request passes first: only names of the studio, only pages of the studio."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.folders import UPLOADS
from app.routes import FILES, UPLOAD, file_asked_for, is_for_all, route_of
from app.security import LOCAL_HOSTS, is_space
from app.sockets import POLICY, TRY_LATER, GuardedSocket

MAX_SOCKETS = 32
"""WebSockets that may be open at once."""
MAX_BODY_BYTES = 8_000_000
"""Of a request that is no upload: those of the page take a few kB, and an agent may send a picture
as text."""

_WRONG_HOST = "The studio is not served under this name; --trusted-host NAME would add it."
_NAMES = ("x-forwarded-host", "x-gradio-server")
"""By these a proxy says its name to Gradio, which shows it to later visitors too."""
_FRAMES = ("iframe", "frame", "object", "embed")
_FOREIGN = "Requests from other sites are refused."
_NOT_OFFERED = "The studio does not offer this."
_TOO_LARGE = "This request is too large: files are uploaded first."
_NOT_SIGNED_IN = "Sign in first: the studio has a password."


class Guard:
    """Every request passes it first, HTTP and WebSocket alike.

    It refuses names that the studio is not served under (a foreign name that leads to this machine
    would let its pages in), what pages of other sites send here through the visitor's browser,
    every route that app/routes.py does not list, visitors who have not signed in, files outside
    the folder for uploads, and large requests, uploads aside. A WebSocket also keeps to limits.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], trusted: Sequence[str]) -> None:
        """`hosts` are the names served under, none for any; `trusted` those of reverse proxies."""
        self.app = app
        self._hosts = hosts
        self._trusted = trusted
        self._num_sockets = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses by itself (status 400 to 413, or a WebSocket closed with 1008), or hands on."""
        if scope["type"] == "http":
            refused = self._refused(HTTPConnection(scope))
            if refused is None and scope["method"] == "POST" and route_of(scope) != UPLOAD:
                read = await _read(scope, receive)
                refused = PlainTextResponse(_TOO_LARGE, 413) if read is None else None
                receive = read or receive
            return await (refused or self.app)(scope, receive, send if is_space() else _own(send))
        if scope["type"] == "websocket":
            return await self._open_socket(scope, receive, send)
        await self.app(scope, receive, send)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        may_enter = self._refused(HTTPConnection(scope)) is None
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
        told = [headers[name].split(",")[0] for name in _NAMES if name in headers]
        if self._hosts and not all(host_name(name) in self._hosts for name in (host, *told)):
            return PlainTextResponse(_WRONG_HOST, 400)
        route = route_of(connection.scope)
        if route is None:
            return PlainTextResponse(_NOT_OFFERED, 404)
        foreign = origin is not None and not self._is_own(origin, host)
        embedded = headers.get("sec-fetch-site") == "cross-site" and (
            headers.get("sec-fetch-mode") != "navigate" or _is_framed(headers)
        )
        if foreign or embedded:
            return PlainTextResponse(_FOREIGN, 403)
        if not is_for_all(route) and not _is_signed_in(connection):
            return PlainTextResponse(_NOT_SIGNED_IN, 401)
        if route == FILES and not UPLOADS.holds(file_asked_for(connection.scope)):
            return PlainTextResponse(_NOT_OFFERED, 404)
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        # A reverse proxy may write its own target into Host, so its public name counts as well.
        authority = origin.split("//")[-1]
        return authority == host or host_name(authority) in self._trusted


async def _read(scope: Scope, receive: Receive) -> Receive | None:
    """`receive` after the whole body was read, or None as soon as it is too large.

    Gradio reads it whole as well, whatever its size.
    """
    length = Headers(scope=scope).get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        return None
    body, is_whole = bytearray(), False
    while not is_whole:
        last = await receive()
        body += last.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        is_whole = not last.get("more_body", False)
    unread = [{**last, "body": bytes(body)}]

    async def receive_again() -> Message:
        return unread.pop() if unread else await receive()

    return receive_again


def _is_framed(headers: Headers) -> bool:
    """Whether a page of another site would show the answer in itself; a Space's page may."""
    return headers.get("sec-fetch-dest") in _FRAMES and not is_space()


def _own(send: Send) -> Send:
    """`send`, which also tells browsers that only the studio's own pages may frame the answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["content-security-policy"] = "frame-ancestors 'self'"
        await send(message)

    return sent


def _is_signed_in(connection: HTTPConnection) -> bool:
    """Whether the visitor gave the studio's password, or none is wanted.

    Gradio checks this for most of its routes, and only after it has read the request.
    """
    app = connection.scope["app"]
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(connection.cookies.get(name) in app.tokens for name in names)


def guards(host: str, trusted_hosts: Sequence[str] = ()) -> list[Middleware]:
    """What every request passes first: only names of the studio, only pages of the studio."""
    # Names that others use for this machine are not known here; then, the password is the guard.
    host = host.lower()  # as browsers send it
    is_open = host not in LOCAL_HOSTS and not trusted_hosts
    hosts = [] if is_open else [*LOCAL_HOSTS, host, *trusted_hosts]
    return [Middleware(Guard, hosts=hosts, trusted=trusted_hosts)]


def host_name(authority: str) -> str:
    """The name in 'name:port' or '[::1]:port', in lower case; empty if there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""

"""Every route that is let through, with the reason. Whatever else Gradio registers is refused."""

from __future__ import annotations

import re
from typing import Final

from starlette._utils import get_route_path  # the path that the router compares with its routes
from starlette.routing import compile_path
from starlette.types import Scope

FILES: Final = "/gradio_api/file={path_or_url:path}"
UPLOAD: Final = "/gradio_api/upload"
SOCKET: Final = "WEBSOCKET"
"""Stands for the method of a route that opens a WebSocket."""

FOR_ALL: Final = (
    ("GET HEAD", "/", "the page; Gradio asks with HEAD at the start whether it answers"),
    ("POST", "/login", "the page and gradio_client send the password"),
    ("GET", "/config", "the page and gradio_client read its components; without a password, 401"),
    ("GET", "/assets/{path:path}", "the page loads its scripts and styles"),
    ("GET", "/static/{path:path}", "the page loads its fonts and pictures"),
    ("GET", "/theme.css", "the page loads its colours"),
    ("GET", "/favicon.ico", "browsers show it beside the title"),
    ("GET", "/manifest.json", "browsers read it to offer the page as an app"),
    ("GET", "/gradio_api/startup-events", "Gradio starts its queue by it"),
    ("GET", "/gradio_api/app_id", "the page asks after a pause whether the studio was restarted"),
)  # fmt: skip
"""(methods, path as Gradio registers it, who needs it), also for who has not signed in."""

FOR_SIGNED_IN: Final = (
    ("GET", "/thumbs/{name:path}", "the page loads small pictures of the assets"),
    (SOCKET, "/play/socket", "players send keys and receive frames"),
    ("GET", "/gradio_api/heartbeat/{session_hash}", "shows that the page or client is still there"),
    ("GET", "/gradio_api/info", "gradio_client and the API's page list the calls"),
    ("GET", "/gradio_api/info/", "the API's page lists the calls"),
    ("GET", "/gradio_api/openapi.json", "other clients read the calls as OpenAPI"),
    ("POST", UPLOAD, "the page and clients upload files"),
    ("GET", "/gradio_api/upload_progress", "the page shows how much is uploaded"),
    ("GET HEAD", FILES, "the page and clients load pictures and clips"),
    ("POST", "/gradio_api/queue/join", "the page and gradio_client call an event in the queue"),
    ("GET", "/gradio_api/queue/data", "the page and gradio_client read its answers"),
    ("POST", "/gradio_api/run/{api_name}", "the page calls an event that does not queue"),
    ("POST", "/gradio_api/component_server/", "the page asks for the odds of a token"),
    ("POST", "/gradio_api/cancel", "gradio_client and the page cancel a call"),
    ("POST", "/gradio_api/reset", "the page sends it after a cancel"),
    ("POST", "/gradio_api/call/{api_name}", "the HTTP API calls"),
    ("GET", "/gradio_api/call/{api_name}/{event_id}", "the HTTP API reads the answers"),
    ("POST", "/gradio_api/call/v2/{api_name}", "the HTTP API calls with named values"),
    ("GET", "/gradio_api/call/v2/{api_name}/{event_id}", "the HTTP API reads the answers"),
    ("GET POST DELETE", "/gradio_api/mcp", "AI agents call tools; there only with --mcp"),
    ("GET POST DELETE", "/gradio_api/mcp/{path:path}", "AI agents call tools; only with --mcp"),
)  # fmt: skip
"""The same for visitors who gave the password, if the studio has one."""

MAX_ADDRESS_BYTES: Final = 8192
"""Path and query; Gradio fails at long addresses."""

_CONTROLS: Final = re.compile(r"[\0-\x1f\x7f]")
"""Gradio fails at them."""
_OPEN: Final = frozenset(path for _, path, _ in FOR_ALL)
_ROUTES: Final = tuple(
    (methods.split(), compile_path(path)[0], path)
    for methods, path, _ in (*FOR_ALL, *FOR_SIGNED_IN)
)


def route_of(scope: Scope) -> str | None:
    """The path, as listed above, of the route that lets this request or WebSocket through."""
    method = SOCKET if scope["type"] == "websocket" else scope["method"]
    path = get_route_path(scope) or "/"  # empty where a proxy leaves --root-path in it
    if _CONTROLS.search(path) or len(path) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
        return None
    found = (
        listed for methods, regex, listed in _ROUTES if method in methods and regex.fullmatch(path)
    )
    return next(found, None)


def is_for_all(route: str) -> bool:
    """Whether it is also for visitors who have not signed in."""
    return route in _OPEN


def file_asked_for(scope: Scope) -> str:
    """The path of the file that a request to FILES asks for."""
    return get_route_path(scope).partition("file=")[2]

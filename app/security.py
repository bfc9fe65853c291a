"""Who may reach the studio. Imports nothing slow, so that a refusal is quick."""

from __future__ import annotations

import os
from importlib.util import find_spec

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_HOSTS = ("127.0.0.1", "localhost")


class SameOrigin:
    """Refuses what pages of other sites send here through the visitor's browser."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 403 itself, or hands the request on."""
        if scope["type"] == "http":
            headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
            origin = headers.get("origin")
            foreign = origin is not None and origin.split("//")[-1] != headers.get("host")
            embedded = (
                headers.get("sec-fetch-site") == "cross-site"
                and headers.get("sec-fetch-mode") != "navigate"
            )
            if foreign or embedded:
                refused = PlainTextResponse("Requests from other sites are refused.", 403)
                return await refused(scope, receive, send)
        await self.app(scope, receive, send)


def guards(host: str) -> list[Middleware]:
    """What every request passes first: only names of this machine, only pages of this studio."""
    # A name others use for this machine is not known here; there, the password is the guard.
    hosts = list(LOCAL_HOSTS) if host in LOCAL_HOSTS else ["*"]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(SameOrigin)]


def parse_auth(text: str | None) -> tuple[str, str] | None:
    """'USER:PASS' as a pair. Raises ValueError for anything else."""
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("--auth takes USER:PASS, both not empty.")
    return user, password


def is_space() -> bool:
    """Whether this runs as a Hugging Face Space, whose own gate decides who comes in."""
    return "SPACE_ID" in os.environ


def default_host() -> str:
    """This machine alone; in a Space, the address its gate asks for."""
    return "0.0.0.0" if is_space() else LOCAL_HOSTS[0]


def check_tools(wanted: bool) -> None:
    """Raises ValueError when tools for agents (MCP) are wanted and their package is missing."""
    if wanted and find_spec("mcp") is None:
        raise ValueError("--mcp needs one more package: python -m pip install 'gradio[mcp]'.")


def check_host(host: str, auth: tuple[str, str] | None) -> None:
    """Raises ValueError for an address that others can reach while nobody is asked who they are."""
    if host not in LOCAL_HOSTS and auth is None and not is_space():
        raise ValueError(f"Serving on {host} lets others in: set --auth USER:PASS as well.")

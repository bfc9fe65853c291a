"""The studio's options on who may reach it, and where. Imports the standard library alone."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

_LABEL = r"[^\W_]([\w-]{0,61}\w)?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?!(.*\.)?[\d]+\Z){_LABEL}(\.{_LABEL})*")
"""A name whose last part is no number: 300.1.1.1 is a mistyped address."""


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


def check_packages() -> None:
    """Raises ValueError where only the engine was installed."""
    if find_spec("gradio") is None:
        raise ValueError("The page needs packages: python -m pip install 'nbp-studio[studio]'.")


def check_tools(wanted: bool) -> None:
    """Raises ValueError when tools for agents (MCP) are wanted and their package is missing."""
    if wanted and find_spec("mcp") is None:
        raise ValueError("--mcp needs one more package: python -m pip install 'gradio[mcp]'.")


def check_host(host: str, auth: tuple[str, str] | None) -> None:
    """Raises ValueError, one sentence, for what is neither an IP address nor a host name, and for
    an address that others can reach while nobody is asked who they are."""
    if not _is_address(host) and not _HOST_NAME.fullmatch(host):
        raise ValueError(
            "--host takes an IP address or a host name of this machine, without brackets and port,"
            f" such as 127.0.0.1 or ::1, not {host!r}."
        )
    if host.lower() not in LOCAL_HOSTS and auth is None and not is_space():
        raise ValueError(f"Serving on {host} lets others in: set --auth USER:PASS as well.")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_address(host: str, port: int) -> None:
    """Raises ValueError, one sentence, for an address that the studio cannot be served on."""
    if not 1 <= port <= 65_535:
        raise ValueError(f"--port takes a number from 1 to 65535, not {port}.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {host} is not an address of this machine.") from error
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
    return f"--host {host} is not an address of this machine."

"""The studio behind a real reverse proxy, under a path and a name of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from app import ui
from tests.support.engine import VALUES, fake_session, small_clips
from tests.support.ports import free_port

NAME = "studio.example"

# Each as docs/serving.md shows it; the last leaves Host as the proxy writes it by itself.
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 1g;
    location {path} {{
      proxy_pass {target}/;
      proxy_buffering off;
      {host}
    }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  handle_path {path}* {{
    reverse_proxy {target} {{
      {host}
    }}
  }}
}}
"""


@contextmanager
def running(program: str, folder: Path, target: str, path: str, keeps_host: bool) -> Iterator[str]:
    """The proxy's own address on this machine."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    port, config = free_port(), folder / "config"
    fill = {"folder": folder, "port": port, "target": target, "path": path}
    if program == "nginx":
        host = "proxy_set_header Host $host;" if keeps_host else ""
        config.write_text(NGINX.format(**fill, host=host))
        command = [found, "-c", str(config), "-e", str(folder / "errors")]
    else:
        host = "" if keeps_host else "header_up Host {upstream_hostport}"
        config.write_text(CADDY.format(**fill, host=host))
        command = [found, "run", "--adapter", "caddyfile", "--config", str(config)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int) -> None:
    for _ in range(200):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no proxy on port {port}")


@pytest.mark.parametrize(
    ("program", "path", "root_path", "keeps_host"),
    [
        ("nginx", "/", None, True),
        ("nginx", "/studio/", "/studio", True),
        ("nginx", "/studio/", f"http://{NAME}/studio", False),
        ("caddy", "/studio/", "/studio", True),
    ],
)
def test_a_visitor_of_a_proxy_makes_a_clip(
    tmp_path: Path, program: str, path: str, root_path: str | None, keeps_host: bool
) -> None:
    session, _ = fake_session(tmp_path / "models", step_s=0)
    blocks = ui.build(session)
    # No password here: with one, the same requests carry a cookie.
    url = ui.launch(
        blocks, "127.0.0.1", None, None,
        root_path=root_path, trusted_hosts=[NAME], prevent_thread_lock=True, quiet=True,
    )  # fmt: skip
    target = url.rstrip("/")
    public = f"http://{NAME}{path.rstrip('/')}"
    try:
        with small_clips(), running(program, tmp_path, target, path, keeps_host) as proxy:
            browser = httpx.Client(headers={"host": NAME, "origin": f"http://{NAME}"}, timeout=60)
            here = proxy + path.rstrip("/")
            assert browser.get(f"{here}/").status_code == 200
            assert browser.get(f"{here}/config").json()["root"] == public
            sent = browser.post(f"{here}/gradio_api/upload", files={"files": ("a.txt", b"x")})
            assert sent.status_code == 200
            asked = browser.post(
                f"{here}/gradio_api/call/generate", json={"data": list(VALUES.values())}
            )
            event = asked.json()["event_id"]
            said = browser.get(f"{here}/gradio_api/call/generate/{event}").text
            clip = json.loads(said.rpartition("data: ")[2])[0]
            assert clip["url"].startswith(f"{public}/gradio_api/file=")
            assert browser.get(clip["url"].replace(public, here)).content[4:8] == b"ftyp"
            foreign = {"origin": "http://elsewhere.example"}
            assert browser.get(f"{here}/config", headers=foreign).status_code == 403
            if keeps_host:
                rebound = {"host": "elsewhere.example", "origin": "http://elsewhere.example"}
                assert browser.get(f"{here}/config", headers=rebound).status_code == 400
    finally:
        blocks.close()
        session.close()

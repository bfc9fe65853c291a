"""The studio's options. It first imports the standard library alone, so that --help is quick."""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app import security, shortcuts

PROJECT = Path(__file__).resolve().parents[1]


def build_parser() -> argparse.ArgumentParser:
    """The studio's options."""
    parser = argparse.ArgumentParser(
        description="NBP Studio opens a page on this machine, at http://127.0.0.1:7860."
    )
    parser.add_argument(
        "--host", default=security.default_host(),
        help="address to serve on; default: 127.0.0.1, this machine alone",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=7860, help="port to serve on; default: 7860")
    parser.add_argument(
        "--models", type=Path, default=_folder("weights"), help="folder of models; default: weights"
    )
    parser.add_argument(
        "--clips-dir", type=Path, metavar="DIR",
        help="folder in which clips are kept between starts; default: one in your user data folder",
    )  # fmt: skip
    parser.add_argument(
        "--clips-mb", type=int, default=1000, metavar="MB",
        help="space for kept clips; beyond it the oldest unpinned ones are deleted; default: 1000",
    )  # fmt: skip
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda or auto (cuda if an NVIDIA GPU is found, else cpu); default: auto",
    )
    parser.add_argument(
        "--cosmos",
        type=Path,
        metavar="FOLDER",
        help="Cosmos' encoder.jit and decoder.jit, WHICH RUN CODE, for models trained with it",
    )
    smaller = parser.add_mutually_exclusive_group()
    smaller.add_argument(
        "--int8",
        action="store_true",
        help="hold large matrices in 8 bits: faster, a bit less exact; `python -m nbp_core doctor`"
        " measures the gain",
    )
    smaller.add_argument(
        "--int4",
        action="store_true",
        help="hold large matrices in 4 bits: faster, less exact; doctor measures the gain",
    )
    parser.add_argument(
        "--instructions", metavar="NAME",
        help="use no better instruction set than this one, such as avx2; default: the best one",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N", help="number of threads; default: one per core"
    )
    parser.add_argument(
        "--auth", metavar="USER:PASS", help="ask visitors for this name and password"
    )
    parser.add_argument(
        "--root-path", metavar="PATH", help="path under which a reverse proxy serves the studio"
    )
    parser.add_argument(
        "--trusted-host", metavar="NAME", action="append", default=[],
        help="public name of a reverse proxy in front of the studio; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--mcp", action="store_true", help="offer the studio's API to AI agents as MCP tools"
    )
    return parser


def _folder(name: str) -> Path:
    """The project's folder of that name; of a studio that pip installed, the one it starts in."""
    return PROJECT / name if (PROJECT / name).is_dir() else Path(name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, builds the page and serves it until Ctrl+C or SIGTERM."""
    try:
        _serve(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


def _serve(arguments: Sequence[str] | None) -> None:
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        security.check_packages()
        security.check_tools(options.mcp)
        auth = security.parse_auth(options.auth)
        root_path = security.parse_root_path(options.root_path)
        trusted_hosts = security.parse_trusted(options.trusted_host)
        security.check_host(options.host, auth)
        security.check_address(options.host, options.port)
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, _end)
    if sys.__stderr__ is not None:  # a crash in compiled code says in which call it was
        faulthandler.enable(sys.__stderr__)
    security.forget_proxies()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, just below
    # Read when torch is imported: its threads sleep between operations. Where others want the cores
    # too, such as the browser, threads that spin hold each other up: a run took 4 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    shortcuts.leave_out_stubs()
    from app.library import data_folder
    from app.session import Session
    from nbp_core.interrupt import end_soon_after_ctrl_c

    try:
        if options.instructions is not None or options.threads is not None:
            # It brings torch, which else is imported once the page is there.
            from nbp_core.runtime import start

            start(options.instructions, options.threads)
        session = Session(
            options.models,
            options.device,
            assets=_folder("assets"),
            results=_folder("results"),
            clips=options.clips_dir or data_folder(),
            max_clip_bytes=max(1, options.clips_mb) * 1_000_000,
            # What a visitor may do to this machine's own files is for its user alone.
            is_local=options.host in security.LOCAL_HOSTS and not trusted_hosts,
            cosmos=options.cosmos,
            int8=options.int8,
            int4=options.int4,
        )
    except ValueError as error:
        parser.error(str(error))
    end_soon_after_ctrl_c(session.remove_files)
    try:
        # Only now: gradio takes the session's folder for uploads when it is imported.
        from app import ui

        blocks = ui.build(session)
        ui.launch(
            blocks, options.host, options.port, auth, root_path=root_path,
            trusted_hosts=trusted_hosts, mcp_server=options.mcp, prevent_thread_lock=True,
        )  # fmt: skip
        session.load_soon(session.first_model())  # only now: the page is there before it
        blocks.block_thread()
    except KeyboardInterrupt:  # before Gradio's own loop, which ends quietly at one
        pass
    except OSError as error:  # somebody else took the port since it was tried
        parser.error(f"The studio cannot be served on {options.host}:{options.port}: {error}")
    finally:
        session.close()


def _end(signal_number: int, frame: object) -> NoReturn:
    """Makes SIGTERM end the studio as Ctrl+C does, so that its folders are removed."""
    sys.exit(0)

"""NBP Studio: `python app.py` opens the studio on http://127.0.0.1:7860."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from app import security

HERE = Path(__file__).parent


def main() -> None:
    """Reads the options, builds the page and serves it until Ctrl+C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=security.default_host(), help="address to serve on")
    parser.add_argument("--port", type=int, default=7860, help="port to serve on (7860)")
    parser.add_argument("--models", type=Path, default=HERE / "weights", help="folder of models")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--cosmos", type=Path, help="folder of Cosmos' TorchScript files, whose code is run"
    )
    smaller = parser.add_mutually_exclusive_group()
    smaller.add_argument(
        "--int8", action="store_true", help="models' large matrices in 8 bits: faster, less exact"
    )
    smaller.add_argument(
        "--int4", action="store_true", help="in 4 bits, on processors with matrix tiles (AMX)"
    )
    parser.add_argument("--auth", metavar="USER:PASS", help="ask visitors for a password")
    parser.add_argument("--mcp", action="store_true", help="offer the studio to agents as tools")
    options = parser.parse_args()
    try:
        security.check_tools(options.mcp)
        auth = security.parse_auth(options.auth)
        security.check_host(options.host, auth)
    except ValueError as error:
        parser.error(str(error))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, just below
    # Read when torch is imported: its threads sleep between operations. Where others want the cores
    # too, such as the browser, threads that spin hold each other up: a run took 4 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from app import ui
    from app.session import Session

    try:
        session = Session(
            options.models,
            options.device,
            assets=HERE / "assets",
            results=HERE / "results",
            is_local=options.host in security.LOCAL_HOSTS,
            cosmos=options.cosmos,
            int8=options.int8,
            int4=options.int4,
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        page = ui.build(session)
        ui.launch(page, options.host, options.port, auth, mcp_server=options.mcp)
    finally:
        session.close()


if __name__ == "__main__":
    main()

"""python -m nbp_core <verb>"""

import sys

from nbp_core.interrupt import STATUS, end_soon_after_ctrl_c


def main() -> int:
    """Runs the command line; its exit status."""
    end_soon_after_ctrl_c()
    try:
        # Imported here, since it takes seconds in which one may press Ctrl+C.
        from nbp_core.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return STATUS


if __name__ == "__main__":
    sys.exit(main())

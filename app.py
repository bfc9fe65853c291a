"""NBP Studio: `python3 app.py` opens it on http://127.0.0.1:7860; the first start installs it."""

import sys

if __name__ == "__main__":
    import bootstrap  # first, since it refuses a Python that is too old for the rest
    from app.main import build_parser, main

    build_parser().parse_args()  # --help and wrong options need no packages
    bootstrap.start_app(sys.argv[1:])
    main()

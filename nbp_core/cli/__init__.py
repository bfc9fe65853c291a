"""The command line: `python -m nbp_core VERB`, or `nbp VERB` where it is installed."""

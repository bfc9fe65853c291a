"""The command line: `python -m nbp_core VERB`; one file per verb."""

"""Decode steps here beside those of other programs, timed in turn."""

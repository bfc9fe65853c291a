"""The Attention tab: maps of what the heads look at."""

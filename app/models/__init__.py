"""The Models tab: which models there are, their cards, conversion."""

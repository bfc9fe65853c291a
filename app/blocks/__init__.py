"""The Blocks tab: how a grid is cut, and what each cut costs."""

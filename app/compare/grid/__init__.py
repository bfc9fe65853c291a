"""A grid of clips in which one setting varies: its form, its job, and how it is shown."""

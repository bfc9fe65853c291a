"""A clip made here: its request, its run, its progress, its files, its words."""

"""Times decode steps here and in other programs, alternately."""

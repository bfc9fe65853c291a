"""Speed of decode steps, compared with the hardware's floor and other programs."""

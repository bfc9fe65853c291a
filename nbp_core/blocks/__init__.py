"""How a grid of tokens is cut into blocks, and how blocks become one sequence."""

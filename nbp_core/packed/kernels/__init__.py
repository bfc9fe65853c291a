"""What decode steps are made of, compiled by numba for the processor at hand: lists of jobs, and
the threads that do them. Imported only when a model is packed: numba takes half a second."""

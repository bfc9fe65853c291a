"""Kernels of decode steps, compiled by numba for this processor, and their thread pool.

Imported when a model is packed, since importing numba takes half a second.
"""

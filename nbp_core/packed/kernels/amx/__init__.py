"""Kernels on matrix tiles (AMX)."""

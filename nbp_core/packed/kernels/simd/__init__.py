"""Kernels on vector registers (AVX2, AVX-512, NEON)."""

"""Pixels to tokens and back: causal 3D convolutions and FSQ."""

"""Attention maps of one forward pass, and pictures of them."""

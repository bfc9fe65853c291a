"""Frozen configurations of tokenizer, transformer and sampler. Knows nothing of torch.

Shape words: a grid is (t, h, w) tokens, a block shape is (t, h, w) tokens, a kernel or stride is
(time, height, width).
"""

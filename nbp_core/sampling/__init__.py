"""From logits to tokens: filters, the sampling loop, kinds of decode steps."""

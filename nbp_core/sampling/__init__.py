"""From logits to tokens: filters, the sampling loop, and ways to run decode steps."""

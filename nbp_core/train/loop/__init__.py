"""The training loop: trainer, optimisers, checkpoints, log."""

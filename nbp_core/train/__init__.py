"""Training: sources of clips, losses, one loop for both models."""

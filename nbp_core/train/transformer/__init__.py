"""Training of a BlockTransformer: recipe, batches, losses, one call for a run."""

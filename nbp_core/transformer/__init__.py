"""The block-attention transformer: attention, layer, positions, conditions."""

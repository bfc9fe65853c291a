"""Training data: clips, camera moves over photographs, Meta-World, sets of tokens."""

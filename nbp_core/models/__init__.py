"""The catalogue of model folders, the pairing with tokenizers, released checkpoints."""

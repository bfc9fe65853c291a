"""Which models there are: the catalogue, tokenizers and their transformers, released ones."""

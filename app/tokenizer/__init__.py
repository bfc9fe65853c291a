"""The Tokenizer tab: pixels to tokens and back."""

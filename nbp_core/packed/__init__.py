"""The models as generation runs them: a transformer with packed weights and plans of its steps, and
a tokenizer with a packed decoder."""

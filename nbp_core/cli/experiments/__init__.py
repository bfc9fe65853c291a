"""The verb `experiment`, one module per kind of experiment."""

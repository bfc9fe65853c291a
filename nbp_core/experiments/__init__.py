"""The paper's experiments, repeated small."""

"""The paper's released checkpoints, converted to model folders."""

"""The studio's skin: no torch, no maths; it talks to nbp_core.generation.pipeline."""

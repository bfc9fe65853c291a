"""Words about a run that several tabs use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbp_core.cgroup import cores

if TYPE_CHECKING:
    from nbp_core.generation.pipeline import VideoPipeline


def device_words(pipeline: VideoPipeline) -> str:
    """'CPU, 2 cores', and how weights are held if they are made smaller than need be."""
    if pipeline.device != "cpu":
        return pipeline.device.upper()
    words = f"CPU, {plural(cores(), 'core')}"
    weights = pipeline.identity.get("weight_format")
    return f"{words}, {weights}" if weights in ("int8", "int4") else words


def weights_words(pipeline: VideoPipeline) -> str:
    """'weights small (1a2b3c4d) and tokenizer nano'. The letters are the start of a fingerprint;
    random weights are called that."""
    identity = pipeline.identity
    which = str(identity.get("sha256", ""))[:8] or str(identity.get("weights", ""))
    weights = f"weights {pipeline.name}" + (f" ({which})" if which else "")
    return f"{weights} and tokenizer {pipeline.tokenizer_name}"


def plural(count: int, noun: str) -> str:
    """'1 step', '1,280 steps'."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")

"""NBP Studio's engine: pixels -> tokens -> blocks -> transformer -> sampler -> pixels."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbp_core.blocks.grid import BlockLayout
    from nbp_core.config.sampling import SamplingConfig
    from nbp_core.generation.pipeline import VideoPipeline
    from nbp_core.tokenizer.model import VideoTokenizer
    from nbp_core.transformer.model import BlockTransformer

__all__ = ["BlockLayout", "BlockTransformer", "SamplingConfig", "VideoPipeline", "VideoTokenizer"]

_HOMES = {
    "BlockLayout": "blocks.grid",
    "BlockTransformer": "transformer.model",
    "SamplingConfig": "config.sampling",
    "VideoPipeline": "generation.pipeline",
    "VideoTokenizer": "tokenizer.model",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, since torch takes a second to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

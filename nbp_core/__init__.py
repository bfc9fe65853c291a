"""NBP Studio's engine: pixels -> tokens -> blocks -> transformer -> sampler -> pixels."""

from nbp_core.blocks.grid import BlockLayout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.transformer.model import BlockTransformer

__all__ = ["BlockLayout", "BlockTransformer", "SamplingConfig", "VideoPipeline", "VideoTokenizer"]

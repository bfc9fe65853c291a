"""NBP Studio's engine: pixels -> tokens -> blocks -> transformer -> sampler -> pixels."""

from nbp_core.blocks import BlockLayout
from nbp_core.config import SamplingConfig
from nbp_core.pipeline import VideoPipeline
from nbp_core.tokenizer import VideoTokenizer
from nbp_core.transformer import BlockTransformer

__all__ = ["BlockLayout", "BlockTransformer", "SamplingConfig", "VideoPipeline", "VideoTokenizer"]

"""Models small enough for a unit test, with weights large enough that differences would show."""

from pathlib import Path

import torch
from torch import Tensor, nn

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.checkpoint import save_model
from nbp_core.config.models import StageConfig, TokenizerConfig, TransformerConfig
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.config.weight_files import weights_sha256
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.sampling.decoder import Decoder
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.steps import decoder_of
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.transformer.model import BlockTransformer

ACTIONS = ("door-open", "drawer-close", "pan-left")
CODES = 60
DECODINGS: tuple[tuple[LayoutKind, Size3, int], ...] = (
    ("elastic", (1, 1, 16), 0),
    ("elastic", (1, 1, 1), 512),
    ("elastic", (1, 4, 4), 256),
    ("plain", (1, 1, 16), 256),
    ("hybrid", (1, 1, 16), 0),
)
"""Layout, block shape and number of known tokens, of clips of three latent frames."""


def tokenizer_config() -> TokenizerConfig:
    return TokenizerConfig(
        name="test-tokenizer",
        stages=(
            StageConfig(width=8, encoder_units=1, decoder_units=1, kernel=(1, 3, 3)),
            StageConfig(width=16, encoder_units=1, decoder_units=1),
            StageConfig(width=16, encoder_units=1, decoder_units=1),
        ),
        strides=((2, 2, 2), (2, 1, 1)),
        levels=(5, 4, 3),
        patch=4,
        io_kernel=(1, 3, 3),
        norm_groups=4,
    )


def transformer_config(
    layout: LayoutKind = "elastic",
    block_shape: Size3 = (1, 1, 16),
    grid: Size3 = (5, 16, 16),
    modern: bool = True,
) -> TransformerConfig:
    elastic = layout == "elastic"
    return TransformerConfig(
        name="test-transformer",
        num_layers=2,
        width=32,
        num_heads=2,
        layout=layout,
        codebook_size=CODES,
        block_shape=block_shape,
        grid=grid,
        num_conditions=0 if layout == "plain" else len(ACTIONS) + 1,
        prefix_len={"plain": 0, "hybrid": 3, "elastic": 1}[layout],
        actions=ACTIONS if elastic else (),
        max_len=1400,
        rope=elastic and modern,
        rms_norm=modern,
        swiglu=modern,
        aimed=elastic and modern,
    )


def build_tokenizer(seed: int = 0, config: TokenizerConfig | None = None) -> VideoTokenizer:
    torch.manual_seed(seed)
    tokenizer = VideoTokenizer(config or tokenizer_config())
    _make_lively(tokenizer, 1.0)
    return tokenizer


def build_transformer(config: TransformerConfig, seed: int = 0) -> BlockTransformer:
    torch.manual_seed(seed)
    model = BlockTransformer(config)
    _make_lively(model, 5.0)
    return model


def _make_lively(model: nn.Module, scale: float) -> None:
    """Scales matrices up, moves biases and aims off zero: no path of the network is idle."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("aim.maps"):
                parameter.normal_(std=0.05)
            elif name == "frame_emb.weight":
                parameter.normal_(std=0.5)
            elif parameter.ndim > 1:
                parameter.mul_(scale)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval().requires_grad_(False)


def decode_tokens(
    model: BlockTransformer,
    shape: Size3,
    sampling: SamplingConfig,
    known: int,
    tokens_Bthw: Tensor,
    action: int = 0,
    decoder: Decoder | None = None,
    is_decoding: bool = False,
) -> Tensor:
    """Clips of three latent frames, from nothing or from known tokens, with guidance where the
    sampling asks for it: (B, tokens made). By the model's own decoder, or by another one."""
    layout, config = sequence_layout(model.config, shape, 3), model.config
    size = len(tokens_Bthw), config.prefix_len
    conditions = torch.full(size, config.first_condition_id + action).to(tokens_Bthw.device)
    nulls = torch.full_like(conditions, 1) if sampling.guidance != 1 else None
    rngs = [
        torch.Generator(tokens_Bthw.device).manual_seed(sampling.seed + clip)
        for clip in range(len(tokens_Bthw))
    ]
    sampler = Sampler(decoder or decoder_of(model), layout, sampling, rngs, lambda: is_decoding)
    stream = sampler.stream(tokens_Bthw, known, conditions, nulls)
    return torch.cat([step.tokens_Bn for step in stream], dim=1)


def build_pipeline(layout: LayoutKind = "elastic") -> VideoPipeline:
    return VideoPipeline(build_transformer(transformer_config(layout)), build_tokenizer())


def save_pipeline(folder: Path, config: TransformerConfig | None = None) -> Path:
    """Both models as folders, as they are bundled; returns the transformer's."""
    tokenizer, transformer = build_tokenizer(), build_transformer(config or transformer_config())
    save_model(folder / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    reference = {"folder": "../nano", "sha256": weights_sha256(folder / "nano")}
    save_model(
        folder / "tiny",
        "transformer",
        transformer.config,
        transformer.state_dict(),
        tokenizer=reference,
    )
    return folder / "tiny"

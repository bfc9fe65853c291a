"""Translates the tensor names of the released networks to our configuration and names.

Input: named tensors and training arguments of a file. Output: a Released model, not yet checked
against the network that its configuration describes. Source: the released code.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nbp_core.blocks.grid import tiles
from nbp_core.config.json import shown
from nbp_core.config.models import StageConfig, TokenizerConfig, TransformerConfig
from nbp_core.config.presets import RELEASED_LEVELS
from nbp_core.config.shapes import LayoutKind, Size3, format_block_shape
from nbp_core.models.released.file import ReleasedFileError

HEADS_OF_WIDTH = {1536: 16, 2048: 32, 3072: 32}
EMBEDDED_TOKENIZER = "first_stage_model."
"""Prefix of the tokenizer's tensors, which a transformer's file may contain too."""
SOURCE_TENSOR = "encoder_layers.0.conv.weight"
"""The tokenizer's first kernel; its hash identifies the tokenizer."""
_STRIDES: dict[int, Size3] = {8: (2, 2, 2), 4: (1, 2, 2)}


@dataclass(frozen=True)
class Released:
    """A released model: its configuration, and memory-mapped tensors under our names."""

    kind: str
    config: TokenizerConfig | TransformerConfig
    weights: dict[str, Tensor]
    family: str | None
    source: str | None
    """Fingerprint of the tokenizer itself, or of the one this transformer was trained with."""

    @property
    def num_bytes(self) -> int:
        return sum(weight.nbytes for weight in self.weights.values())


def fingerprint(kernel: Tensor) -> str:
    """A short hash of a tensor's values in float32, so that a stored precision does not matter."""
    return hashlib.sha256(kernel.float().contiguous().numpy().tobytes()).hexdigest()[:16]


def released_tokenizer(tensors: dict[str, Tensor], name: str, family: str | None) -> Released:
    """A tokenizer from its tensors (encoder_layers.N, decoder_layers.N); sizes from their shapes.

    Raises ReleasedFileError if its architecture is not that of the released tokenizers.
    """
    stacks = {stack: _layers(tensors, f"{stack}_layers.") for stack in ("encoder", "decoder")}
    first, latents = (_first_kernel(stack, layers) for stack, layers in stacks.items())
    widths, units = _stages(stacks["encoder"])
    _, decoder_units = _stages(stacks["decoder"])
    latent = latents.shape[1]
    if latent != len(RELEASED_LEVELS):
        raise ReleasedFileError(
            f"this tokenizer has {latent} latent channels; the released ones have "
            f"{len(RELEASED_LEVELS)}"
        )
    ups = [
        layer["conv.weight"].shape[0] // layer["conv.weight"].shape[1]
        for layer in list(stacks["decoder"].values())[1:-1]
        if "conv.weight" in layer
    ]
    if len(widths) != len(decoder_units) or any(factor not in _STRIDES for factor in ups):
        raise ReleasedFileError("this tokenizer has other strides than the released ones")
    kernel: Size3 = (first.shape[2], first.shape[3], first.shape[4])
    config = TokenizerConfig(
        name=name,
        stages=tuple(
            StageConfig(width=width, encoder_units=enc, decoder_units=dec, kernel=kernel)
            for width, enc, dec in zip(widths, units, reversed(decoder_units), strict=True)
        ),
        strides=tuple(_STRIDES[factor] for factor in reversed(ups)),
        levels=RELEASED_LEVELS,
        up_kernel=kernel,
        io_kernel=kernel,
    )
    weights = {
        f"{stack}_layers.{i}.{_renamed(inner, is_last=i == len(layers) - 1, is_up=is_up)}": tensor
        for stack, layers in stacks.items()
        for i, (layer, is_up) in enumerate(_with_ups(stack, layers))
        for inner, tensor in layer.items()
    }
    return Released("tokenizer", config, weights, family, fingerprint(tensors[SOURCE_TENSOR]))


def _layers(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    """The tensors of a stack by layer, in order. Layers without tensors (reshapes) are left out."""
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, inner = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and index.isdecimal():
            layers.setdefault(int(index), {})[inner] = tensor
    return dict(sorted(layers.items()))


def _first_kernel(stack: str, layers: dict[int, dict[str, Tensor]]) -> Tensor:
    """The kernel of a stack's first layer. Raises ReleasedFileError if any kernel is none."""
    for layer in layers.values():
        for inner, kernel in layer.items():
            if inner.endswith("conv.weight") and (kernel.ndim != 5 or not kernel.numel()):
                raise ReleasedFileError(
                    f"a convolution of the {stack} has a kernel of shape {tuple(kernel.shape)}, "
                    "which does not extend over time, height and width"
                )
    first = next(iter(layers.values()), {}).get("conv.weight")
    if first is None:
        raise ReleasedFileError(f"the {stack} of this tokenizer does not begin with a convolution")
    return first


def _with_ups(
    stack: str, layers: dict[int, dict[str, Tensor]]
) -> list[tuple[dict[str, Tensor], bool]]:
    """Each layer, and whether it is the convolution of an upsampling (a reshape follows it)."""
    last = max(layers)
    return [
        (layer, stack == "decoder" and i != last and i + 1 not in layers)
        for i, layer in layers.items()
    ]


def _stages(layers: dict[int, dict[str, Tensor]]) -> tuple[list[int], list[int]]:
    """(widths, numbers of residual units) of the stages, in layer order."""
    widths: list[int] = []
    units: list[int] = []
    is_new = True
    for layer in layers.values():
        if "fn.2.conv.weight" in layer:
            if is_new:
                widths.append(layer["fn.2.conv.weight"].shape[0])
                units.append(0)
            units[-1] += 1
            is_new = False
        elif "conv.weight" in layer:
            is_new = True
    return widths, units


def _renamed(inner: str, *, is_last: bool, is_up: bool) -> str:
    """Our name of a tensor inside its layer."""
    if is_up:
        return f"conv.{inner}"
    if is_last and not inner.startswith("conv."):
        return f"conv.{inner}"
    return re.sub(r"^residual_fn\.0\.", "shortcut.", re.sub(r"^fn\.", "body.", inner))


_TRANSFORMER_NAMES = (
    (r"^blocks\.(\d+)\.ln1\.", r"layers.\1.norm_1."),
    (r"^blocks\.(\d+)\.ln2\.", r"layers.\1.norm_2."),
    (r"^blocks\.(\d+)\.attn\.", r"layers.\1.attention."),
    (r"^blocks\.(\d+)\.mlp\.", r"layers.\1.mlp."),
    (r"^ln_f\.", "norm_f."),
)


def released_transformer(
    tensors: dict[str, Tensor],
    args: dict[str, Any],
    name: str,
    num_heads: int | None,
    family: str | None,
) -> Released:
    """A transformer from its tensors (transformer.*); sizes from their shapes and the arguments.

    Raises ReleasedFileError if its architecture is not that of the released transformers.
    """
    ours = {
        key.removeprefix("transformer."): tensor
        for key, tensor in tensors.items()
        if key.startswith("transformer.") and not key.endswith(".attn.mask")
    }
    unused = ours.pop("uncond_embedding", None)
    if "vtokens_pos_emb" in ours:
        raise ReleasedFileError("this transformer has box positions, which no released one has")
    vocab, width = _shape(ours, "tok_emb.weight", 2)
    layout = _layout(args, family, vocab)
    block_len = _number(args, "token_number_per_step", 16)
    prefix_len = 0
    if layout == "hybrid":
        stored = None if unused is None or unused.ndim == 0 else unused.shape[0]
        prefix_len = _number(args, "cond_token_num", stored or 8)
    codes = math.prod(RELEASED_LEVELS)
    special = block_len if layout == "hybrid" else 0
    if vocab < codes + special + (layout == "hybrid"):
        raise ReleasedFileError(
            f"a vocabulary of {vocab:,} ids has no room for {codes:,} video ids and what stands "
            "before them"
        )
    weights = {}
    for key, tensor in ours.items():
        weights[_transformer_name(key)] = tensor
    grid = _grid(args)
    block_shape = _block_shape(block_len, grid[2])
    if not tiles(grid, block_shape):
        raise ReleasedFileError(
            f"blocks of {block_len} tokens do not fill the rows of a grid of "
            f"{format_block_shape(grid)}"
        )
    layers = {int(m[1]) for key in weights if (m := re.match(r"layers\.(\d+)\.", key))}
    config = TransformerConfig(
        name=name,
        num_layers=len(layers),
        width=width,
        num_heads=_num_heads(num_heads, args, width),
        layout=layout,
        codebook_size=codes if layout == "hybrid" else vocab,
        block_shape=block_shape,
        grid=grid,
        num_conditions=vocab - codes - special if layout == "hybrid" else 0,
        prefix_len=prefix_len,
        max_len=_shape(ours, "pos_emb", 3)[1],
    )
    kernel = tensors.get(EMBEDDED_TOKENIZER + SOURCE_TENSOR)
    source = None if kernel is None else fingerprint(kernel)
    family = family or ("ucf" if layout == "hybrid" else "k600")
    return Released("transformer", config, weights, family, source)


def _transformer_name(name: str) -> str:
    for pattern, ours in _TRANSFORMER_NAMES:
        name = re.sub(pattern, ours, name)
    return name


def _layout(args: dict[str, Any], family: str | None, vocab: int) -> LayoutKind:
    """Plain for unconditional models, hybrid for models with a class prompt."""
    if "unconditional" in args:
        is_plain = bool(args["unconditional"])
    else:
        is_plain = vocab == math.prod(RELEASED_LEVELS) or (not args and family == "k600")
    if is_plain:
        return "plain"
    if not args.get("hybrid", True) and args.get("token_number_per_step", 16) != 1:
        raise ReleasedFileError(
            "this transformer begins with a whole block of BOV tokens; none of the released ones "
            "does, and it cannot be converted"
        )
    return "hybrid"


def _num_heads(asked: int | None, args: dict[str, Any], width: int) -> int:
    if asked is not None:
        return asked
    heads = _number(args, "n_head", HEADS_OF_WIDTH.get(width, 0))
    if not heads:
        raise ReleasedFileError(
            f"the file lacks the number of attention heads for its width of {width}; add --heads N"
        )
    return heads


def _grid(args: dict[str, Any]) -> Size3:
    side = _number(args, "resolution", 128, least=8) // 8
    return 1 + (_number(args, "sequence_length", 17) - 1) // 4, side, side


def _number(args: dict[str, Any], name: str, default: int, least: int = 1) -> int:
    """A number of the training arguments; the default where it is missing or 0."""
    found = args.get(name) or default
    if found is not default and not (isinstance(found, int) and found >= least):
        raise ReleasedFileError(
            f"the training arguments of this file have {shown(str(found))} as {name}, which must "
            f"be a whole number of at least {least}"
        )
    return int(found)


def _shape(tensors: dict[str, Tensor], name: str, num_sides: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises ReleasedFileError if it is missing or has other sides."""
    if name not in tensors:
        raise ReleasedFileError(f"this transformer has no tensor {name!r}")
    shape = tuple(tensors[name].shape)
    if len(shape) != num_sides:
        raise ReleasedFileError(
            f"tensor {name!r} of this transformer has the shape {shape}, which must have "
            f"{num_sides} sides"
        )
    return shape


def _block_shape(block_len: int, side: int) -> Size3:
    """The released models predict a part of a row, or whole rows, in raster order."""
    if block_len <= side:
        return 1, 1, block_len
    return 1, block_len // side, side

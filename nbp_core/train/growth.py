"""Makes a larger transformer that computes the same as a smaller one, as a start for training.

Input: a trained BlockTransformer and the config of a wider or deeper one. Output: that model, with
logits that are equal up to rounding. New parts add nothing at first: new channels are zero, new
heads and hidden units have zero output weights, and a new layer is a copy of the one below it with
zero output weights (after Net2Net, arXiv 1511.05641, and LLaMA Pro, arXiv 2401.02415).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nbp_core.config.models import TransformerConfig
from nbp_core.transformer.model import BlockTransformer

_KEPT = (
    "layout", "codebook_size", "grid", "num_conditions", "prefix_len",
    "rope", "rms_norm", "swiglu", "tied_head",
)  # fmt: skip
_KEPT_BY_LAYOUT = {"plain": ("max_len",), "hybrid": ("max_len", "block_shape"), "elastic": ()}
"""Further settings that a model shares with its start: those that number its positions and ids."""
_KEPT_BY_SIZE = ("num_heads", "mlp_ratio")
"""Further settings that a model shares with a start of its own size."""
_GAINED = ("aimed", "frame_conditions")
"""Parts that a model may have and its start may lack, but not the other way round."""
_SIZES = ("num_layers", "width", "hidden_width")
# Suffixes of the weights that write to the residual path.
_WRITES = ("attention.proj.weight", "mlp.down.weight", "mlp.2.weight")
_NEXT_LAYER_ADDS = (*_WRITES, "attention.proj.bias", "mlp.down.bias", "mlp.2.bias")


@torch.no_grad()
def grown(small: BlockTransformer, config: TransformerConfig) -> BlockTransformer:
    """A model of `config`, larger than `small`, with the same logits.

    Raises ValueError if `config` is not larger or is of another design or other tokens.
    """
    old = small.config
    _check_growth(old, config, _KEPT)
    large = BlockTransformer(config)
    known = small.state_dict()
    sources = [layer * old.num_layers // config.num_layers for layer in range(config.num_layers)]
    for name, target in large.state_dict().items():
        source, is_new = _source(name, sources)
        if (".aim." in name and not old.aimed) or (
            name == "frame_emb.weight" and not old.frame_conditions
        ):
            continue  # these parts keep their initial values, which change no logit
        if is_new and name.endswith(_NEXT_LAYER_ADDS):
            target.zero_()
        else:
            _fill(name, target, known[source])
    return large


@torch.no_grad()
def reconditioned(
    model: BlockTransformer, actions: tuple[str, ...], keys: tuple[str, ...]
) -> BlockTransformer:
    """The same model with other actions and keys, one condition id each.

    Names that the model knows keep their weights; a new name starts with those of "no condition".
    """
    old = model.config
    config = replace(
        old, actions=actions, keys=keys, key_reach=(), num_conditions=len(actions) + len(keys) + 1
    )
    known = {name: index for index, name in enumerate((*old.actions, *old.keys))}
    none = old.num_conditions - 1
    rows = torch.tensor([known.get(name, none) for name in (*actions, *keys)] + [none])
    ids = torch.cat(
        [
            torch.arange(old.first_condition_id),
            old.first_condition_id + rows,
            torch.arange(old.first_video_id, old.vocab_size),
        ]
    )
    changed = BlockTransformer(config)
    weights = model.state_dict()
    for name, target in changed.state_dict().items():
        of_tokens = name in ("tok_emb.weight", "head.weight")
        of_conditions = name.endswith("aim.maps") or name == "frame_emb.weight"
        chosen = ids if of_tokens else rows if of_conditions else slice(None)
        target.copy_(weights[name][chosen])
    return changed


@torch.no_grad()
def fit_weights(model: BlockTransformer, known: BlockTransformer) -> None:
    """Copies the weights of `known`, a model of the same size, into `model`.

    Aims and conditions per latent frame that `known` lacks keep their initial values. Raises
    ValueError if `known` is of another design or other tokens.
    """
    _check_design(known.config, model.config, (*_KEPT, *_KEPT_BY_SIZE))
    model.load_state_dict(known.state_dict(), strict=False)


def check_start(old: TransformerConfig, config: TransformerConfig) -> None:
    """Raises ValueError if a model of `config` cannot start from one of `old`, whatever their
    actions and keys: `reconditioned` can change these."""
    kept = [name for name in _KEPT if name != "num_conditions"]
    if has_size_of(old, config):
        _check_design(old, config, (*kept, *_KEPT_BY_SIZE))
    else:
        _check_growth(old, config, kept)


def has_size_of(old: TransformerConfig, config: TransformerConfig) -> bool:
    """Whether two models have as many layers of the same width."""
    return (old.num_layers, old.width) == (config.num_layers, config.width)


def _check_growth(old: TransformerConfig, config: TransformerConfig, kept: Sequence[str]) -> None:
    """Raises ValueError unless a model of `old` can grow to `config`, with equal `kept`."""
    _check_design(old, config, kept)
    if any(getattr(config, size) < getattr(old, size) for size in _SIZES):
        raise ValueError(f"{config.name} is not larger than {old.name}")
    if config.width // config.num_heads != old.width // old.num_heads:
        raise ValueError(f"heads of {config.name} must be as wide as those of {old.name}")
    if config.width > old.width and not old.rms_norm:
        raise ValueError("only a model with RMSNorm can grow wider")


def _check_design(old: TransformerConfig, config: TransformerConfig, kept: Sequence[str]) -> None:
    """Raises ValueError unless a model of `config` can have weights of `old`, with equal `kept`."""
    names = (*kept, *_KEPT_BY_LAYOUT[old.layout])
    differing = [name for name in names if getattr(old, name) != getattr(config, name)]
    differing += [name for name in _GAINED if getattr(old, name) and not getattr(config, name)]
    if differing:
        raise ValueError(f"{config.name} cannot start from {old.name}: its {differing[0]} differs")


def _source(name: str, sources: list[int]) -> tuple[str, bool]:
    """(the name of the weight in the smaller model, whether its layer is new)."""
    if not name.startswith("layers."):
        return name, False
    _, number, rest = name.split(".", 2)
    layer = int(number)
    return f"layers.{sources[layer]}.{rest}", layer > 0 and sources[layer] == sources[layer - 1]


def _fill(name: str, target: Tensor, known: Tensor) -> None:
    """Copies the smaller tensor into the first indices of the larger one."""
    if name.endswith("norm_f.weight") or ".norm_" in name:
        # With new channels of zero, the mean square over all channels is smaller by this ratio.
        target.fill_(1.0)
        target[: len(known)] = known
        target *= math.sqrt(len(known) / len(target))
    elif ".gate_up." in name:
        for half, known_half in zip(target.chunk(2), known.chunk(2), strict=True):
            _put(half, known_half)
    else:
        if "emb" in name or name.endswith(_WRITES) or target.dim() == 1:
            target.zero_()
        _put(target, known)


def _put(target: Tensor, known: Tensor) -> None:
    target[tuple(slice(side) for side in known.shape)] = known

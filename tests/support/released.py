"""The released networks in miniature, written plainly from their description, and how their
authors save them: names, nesting and attention by explicit masks. Only for comparison."""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 64, 64, 96)
LEVELS = (8, 8, 8, 5, 5, 5)


class GroupNormPerFrame(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(GroupNormPerFrame, self).forward(f) for f in x.unbind(2)], 2)


class Swish(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-self.beta * x))


class Causal(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: Any = 1) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.conv = nn.Conv3d(cin, cout, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        p = self.pad
        out: Tensor = self.conv(F.pad(x, (p, p, p, p, 2 * p, 0), mode="replicate"))
        return out


class Unit(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.fn = nn.Sequential(
            GroupNormPerFrame(32, cin), Swish(cin), Causal(cin, cout),
            GroupNormPerFrame(32, cout), Swish(cout), Causal(cout, cout),
        )  # fmt: skip
        self.residual_fn: nn.Module = nn.Identity()
        if cin != cout:
            self.residual_fn = nn.Sequential(Causal(cin, cout, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x) + self.residual_fn(x)
        return out


class DepthToSpace(nn.Module):
    def __init__(self, t: int, h: int, w: int) -> None:
        super().__init__()
        self.factors = (t, h, w)

    def forward(self, x: Tensor) -> Tensor:
        t, h, w = self.factors
        b, c, n, y, z = x.shape
        x = x.view(b, t, h, w, c // (t * h * w), n, y, z).permute(0, 4, 5, 1, 6, 2, 7, 3)
        return x.reshape(b, -1, n * t, y * h, z * w)[:, :, t - 1 :]


class ReferenceTokenizer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.encoder_layers = nn.ModuleList([
            Causal(3, a), Unit(a, a), Unit(a, a), Causal(a, a, 3, (1, 2, 2)),
            Unit(a, b), Causal(b, b, 3, (2, 2, 2)), Unit(b, c), Causal(c, c, 3, (2, 2, 2)),
            Unit(c, d), Unit(d, d), GroupNormPerFrame(32, d), Swish(d),
            nn.Conv3d(d, len(LEVELS), 1),
        ])  # fmt: skip
        self.decoder_layers = nn.ModuleList([
            Causal(len(LEVELS), d), Unit(d, d), Unit(d, d),
            Causal(d, 8 * d), DepthToSpace(2, 2, 2), Unit(d, c),
            Causal(c, 8 * c), DepthToSpace(2, 2, 2), Unit(c, b),
            Causal(b, 4 * b), DepthToSpace(1, 2, 2), Unit(b, a), Unit(a, a),
            GroupNormPerFrame(32, a), Swish(a), Causal(a, 3),
        ])  # fmt: skip

    def latent(self, clip_BCTHW: Tensor) -> Tensor:
        x = clip_BCTHW
        for layer in self.encoder_layers:
            x = layer(x)
        return x

    def tokens(self, clip_BCTHW: Tensor) -> Tensor:
        """Channel by channel, as FSQ is defined."""
        latent, token, basis = self.latent(clip_BCTHW), torch.zeros(()), 1
        for channel, level in zip(latent.unbind(1), LEVELS, strict=True):
            half = (level - 1) * (1 - 1e-3) / 2
            offset = 0.5 if level % 2 == 0 else 0.0
            bounded = torch.tanh(channel + math.tan(offset / half)) * half - offset
            token = token + (bounded.round() + level // 2) * basis
            basis *= level
        return token.long()

    def pixels(self, tokens_Bthw: Tensor) -> Tensor:
        digits, rest = [], tokens_Bthw
        for level in LEVELS:
            digits.append((rest % level - level // 2) / (level // 2))
            rest = rest // level
        x = torch.stack(digits, 1)
        for layer in self.decoder_layers:
            x = layer(x)
        return x.clamp(0, 1)


class ReferenceAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = (
            linear(x).view(b, n, self.heads, d // self.heads).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(d // self.heads)).masked_fill(~mask, -math.inf)
        out: Tensor = self.proj((weights.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))
        return out


class ReferenceBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = ReferenceAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x), mask)
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


class ReferenceTransformer(nn.Module):
    def __init__(self, vocab: int, width: int, heads: int, layers: int, prefix_len: int) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(vocab, width)
        self.pos_emb = nn.Parameter(0.02 * torch.randn(1, 5120, width))
        self.register_buffer("uncond_embedding", torch.randn(prefix_len, width))
        self.blocks = nn.ModuleList([ReferenceBlock(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)

    def forward(self, ids_BL: Tensor, mask_LL: Tensor) -> Tensor:
        x = self.tok_emb(ids_BL) + self.pos_emb[:, : ids_BL.shape[1]]
        for block in self.blocks:
            x = block(x, mask_LL)
        out: Tensor = self.head(self.ln_f(x))
        return out


def reference_mask(length: int, prefix_len: int, block_len: int, hybrid: bool) -> Tensor:
    """As the released code fills it in: triangle, then condition columns, then the blocks."""
    mask = torch.zeros(length, length, dtype=torch.bool)
    start = 0
    if hybrid:
        mask = torch.ones(length, length).tril().bool()
        mask[:, :prefix_len] = True
        start = prefix_len + block_len
    for i in range(start, length, block_len):
        mask[i : i + block_len, start : i + block_len] = True
    return mask


def save_tokenizer(model: nn.Module, path: Path) -> Path:
    weights = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model_state_dict": weights, "epoch": 3}, path)
    return path


def save_transformer(
    model: nn.Module, path: Path, tokenizer: nn.Module | None = None, **args: Any
) -> Path:
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    if tokenizer is not None:
        state = tokenizer.state_dict()
        weights |= {f"first_stage_model.{name}": value for name, value in state.items()}
    namespace = argparse.Namespace(**args)
    stored = {"args": namespace, "ckpt_path": None, "first_stage_key": "video"}
    torch.save(
        {
            "epoch": 1,
            "global_step": 2,
            "pytorch-lightning_version": "2.2.0",
            "state_dict": weights,
            "hyper_parameters": stored if args else {},
        },
        path,
    )
    return path

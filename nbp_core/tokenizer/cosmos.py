"""NVIDIA's Cosmos DV4x8x8 tokenizer: two TorchScript files behind the Tokenizer interface.

Loading TorchScript runs code. These files are therefore only opened from a folder that the user
names on the command line, never from a model folder, an upload or the page. Source: the
Cosmos-Tokenizer release (pixels in [-1, 1], bfloat16).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from nbp_core.config.presets import COSMOS
from nbp_core.tokenizer.conv import StreamState

ENCODER_FILE, DECODER_FILE = "encoder.jit", "decoder.jit"


def is_cosmos(folder: Path) -> bool:
    """Whether a folder holds the two files."""
    return (folder / ENCODER_FILE).is_file() and (folder / DECODER_FILE).is_file()


def cosmos_sha256(folder: Path) -> str:
    """One SHA-256 for both files."""
    digest = hashlib.sha256()
    for name in (ENCODER_FILE, DECODER_FILE):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class CosmosTokenizer(torch.nn.Module):
    """A Tokenizer for inference only: encode and decode work as in VideoTokenizer."""

    def __init__(self, encoder: torch.nn.Module, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.config = COSMOS
        self.encoder = encoder
        self.decoder = decoder

    @classmethod
    def from_folder(cls, folder: Path, device: str | torch.device = "cpu") -> CosmosTokenizer:
        """Loads encoder.jit and decoder.jit, WHICH RUNS THE CODE IN THEM.

        Raises ValueError, one sentence, for a missing file or one that is not TorchScript.
        """
        if not is_cosmos(folder):
            raise ValueError(f"{folder.name!r} has no {ENCODER_FILE} and {DECODER_FILE}")
        try:
            encoder, decoder = (
                torch.jit.load(folder / name, map_location=device).eval()  # type: ignore[no-untyped-call]
                for name in (ENCODER_FILE, DECODER_FILE)
            )
        except RuntimeError as error:
            raise ValueError(f"the files in {folder.name!r} are not TorchScript") from error
        return cls(encoder, decoder)

    def _dtype(self, module: torch.nn.Module) -> torch.dtype:
        return next((p.dtype for p in module.parameters()), torch.float32)

    @torch.inference_mode()
    def encode(self, clip_BCTHW: Tensor) -> Tensor:
        """Clip in [0, 1], T = 1 + 4n, sides multiples of 8 -> tokens_Bthw, int64."""
        self.config.grid(*clip_BCTHW.shape[2:])
        tokens, *_ = self.encoder((clip_BCTHW * 2 - 1).to(self._dtype(self.encoder)))
        out: Tensor = tokens.long()
        return out

    @torch.inference_mode()
    def decode(self, tokens_Bthw: Tensor, state: StreamState | None = None) -> Tensor:
        """Tokens -> clip_BCTHW, float32 in [0, 1]. With a `state`: only the next frames.

        The TorchScript decoder keeps no state, so each call decodes all tokens so far again. The
        network is causal, so this equals streaming.
        """
        past = None if state is None else state.get(self)
        tokens = tokens_Bthw if past is None else torch.cat([past, tokens_Bthw], dim=1)
        if state is not None:
            state[self] = tokens
        clip: Tensor = self.decoder(tokens)
        known = 0 if past is None else self.config.num_frames(past.shape[1])
        return ((clip[:, :, known:].float() + 1) / 2).clamp(0, 1)

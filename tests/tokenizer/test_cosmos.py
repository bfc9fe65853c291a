from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from nbp_core import VideoPipeline
from nbp_core.checkpoint import save_model
from nbp_core.config.description import CheckpointError
from nbp_core.config.models import TransformerConfig
from nbp_core.tokenizer.cosmos import CosmosTokenizer, cosmos_sha256
from tests.support.models import build_transformer


class Encoder(nn.Module):
    """Mean brightness of each 8 x 8 square of each fourth frame, in [-1, 1], as a token."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        grey = x.mean(1)[:, ::4]
        b, t, h, w = grey.shape
        cells = grey.reshape(b, t, h // 8, 8, w // 8, 8).mean((3, 5))
        return ((cells + 1) * 100).round().int(), cells


class Decoder(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        x = (tokens.float() / 100 - 1).repeat_interleave(4, 1)[:, 3:]
        x = x.repeat_interleave(8, 2).repeat_interleave(8, 3)
        return x[:, None].repeat(1, 3, 1, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cosmos")
    for module, name in ((Encoder(), "encoder.jit"), (Decoder(), "decoder.jit")):
        torch.jit.script(module).save(folder / name)  # type: ignore[no-untyped-call]
    return folder


def test_pixels_to_tokens_and_back(folder: Path) -> None:
    tokenizer = CosmosTokenizer.from_folder(folder)
    cells = torch.rand(1, 5, 16, 16)
    clip = Decoder()((cells * 200).round().long()) / 2 + 0.5
    tokens = tokenizer.encode(clip)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, (cells * 200).round().long())
    torch.testing.assert_close(tokenizer.decode(tokens), clip)
    state: dict[nn.Module, Tensor] = {}
    parts = [
        tokenizer.decode(part, state) for part in (tokens[:, :1], tokens[:, 1:3], tokens[:, 3:])
    ]
    assert [part.shape[2] for part in parts] == [1, 8, 8]
    torch.testing.assert_close(torch.cat(parts, 2), clip)


def model_on(folder: Path, sha256: str) -> Path:
    config = TransformerConfig(
        name="on-cosmos", num_layers=1, width=32, num_heads=1, layout="plain", codebook_size=64_000
    )
    weights = build_transformer(config).state_dict()
    save_model(folder, "transformer", config, weights, tokenizer={"cosmos": sha256})
    return folder


def test_a_model_trained_on_it_needs_it_named(folder: Path, tmp_path: Path) -> None:
    model = model_on(tmp_path / "model", cosmos_sha256(folder))
    with pytest.raises(CheckpointError, match="name its folder with --cosmos FOLDER"):
        VideoPipeline.from_pretrained(model, device="cpu")
    with pytest.raises(CheckpointError, match=r"has no encoder\.jit"):
        VideoPipeline.from_pretrained(model, device="cpu", cosmos=tmp_path)
    pipeline = VideoPipeline.from_pretrained(model, device="cpu", cosmos=folder)
    frames = rearrange(torch.rand(1, 3, 5, 128, 128), "1 c t h w -> t h w c")
    result = pipeline.generate(frames_THWC=(frames * 255).byte().numpy())
    assert result.frames_THWC.shape == (17, 128, 128, 3)
    assert result.manifest["tokenizer"] == "cosmos-dv4x8x8"
    other = model_on(tmp_path / "other", "0" * 64)
    with pytest.raises(CheckpointError, match="trained with other files"):
        VideoPipeline.from_pretrained(other, device="cpu", cosmos=folder)


def test_what_is_not_torchscript_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no encoder\.jit and decoder\.jit"):
        CosmosTokenizer.from_folder(tmp_path)
    for name in ("encoder.jit", "decoder.jit"):
        (tmp_path / name).write_bytes(b"no script")
    with pytest.raises(ValueError, match="are not TorchScript"):
        CosmosTokenizer.from_folder(tmp_path)

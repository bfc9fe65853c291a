"""What a CUDA device must do: the same as a processor. Run with -m gpu."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.sampling.cuda_graph import GraphDecoder, Work, cuda_graph
from nbp_core.tokenizer.conv import StreamState
from tests.support.models import (
    CODES,
    DECODINGS,
    build_tokenizer,
    build_transformer,
    decode_tokens,
    save_pipeline,
    transformer_config,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in whole float32, as products are."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def known_tokens() -> torch.Tensor:
    """Those of two clips of three latent frames."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, CODES, (2, 3, 16, 16), generator=generator)


@pytest.mark.parametrize(("kind", "shape", "known"), DECODINGS)
def test_captured_steps_make_the_tokens_of_the_processor(
    kind: LayoutKind, shape: Size3, known: int
) -> None:
    model = build_transformer(transformer_config(kind, shape)).cuda()
    tokens = known_tokens()
    captures: list[Work] = []

    def capture(work: Work) -> Work:
        captures.append(work)
        return cuda_graph(work)

    decoder, greedy = GraphDecoder(model, capture), SamplingConfig(temperature=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what cannot be captured is a warning
        made = decode_tokens(model, shape, greedy, known, tokens.cuda(), decoder=decoder)
    assert captures
    layout = sequence_layout(model.config, shape, 3)
    blocks = layout.blocks.to_blocks(tokens).flatten(1)
    blocks[:, known:] = made.cpu()
    whole = layout.blocks.to_grid(blocks.view(2, layout.blocks.num_blocks, -1))
    conditions = torch.full((2, model.config.prefix_len), model.config.first_condition_id)
    with torch.inference_mode():
        logits = model.cpu()(layout.input_ids(whole, conditions), layout=layout)
    video, targets = logits[..., model.config.first_video_id :], layout.targets(whole)
    is_made = (layout.target_L >= known).expand_as(targets)
    best = video.amax(-1)[is_made]
    chosen = video.gather(-1, targets.clamp(min=0)[..., None])[..., 0][is_made]
    # Sums in another order may settle a tie the other way.
    torch.testing.assert_close(chosen, best, rtol=0, atol=1e-3)


def test_the_same_seed_makes_the_same_tokens_from_kept_graphs() -> None:
    model = build_transformer(transformer_config()).cuda()
    decoder, known = GraphDecoder(model), known_tokens().cuda()
    first, again, other = (
        decode_tokens(model, (1, 1, 16), SamplingConfig(seed=seed), 256, known, decoder=decoder)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_packed_model_makes_clips(tmp_path: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(save_pipeline(tmp_path), device="cuda")
    sampling = SamplingConfig(seed=3, guidance_scale=2.0)
    clips = [pipeline.generate(action="door-open", sampling=sampling) for _ in range(2)]
    assert clips[0].frames_THWC.shape == (17, 128, 128, 3)
    assert (clips[0].tokens_thw == clips[1].tokens_thw).all()
    assert (clips[0].frames_THWC == clips[1].frames_THWC).all()


def test_frames_streamed_are_those_decoded_whole() -> None:
    tokenizer = build_tokenizer().cuda()
    tokens = torch.randint(0, CODES, (1, 5, 16, 16)).cuda()
    state: StreamState = {}
    with torch.inference_mode():
        parts = [tokenizer.decode(tokens[:, i : i + 1], state) for i in range(5)]
        torch.testing.assert_close(
            torch.cat(parts, dim=2), tokenizer.decode(tokens), rtol=0, atol=1e-4
        )

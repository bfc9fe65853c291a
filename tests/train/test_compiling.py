import logging
import os
import subprocess
import sys

import pytest
import torch

from nbp_core import BlockTransformer
from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.train.loop import compiling
from nbp_core.train.loop.compiling import compile_parts, pays_to_compile
from nbp_core.train.loop.trainer import TrainConfig
from nbp_core.transformer.layer import Layer
from tests.support.models import transformer_config

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def gradients(model: BlockTransformer, layout: SequenceLayout) -> dict[str, torch.Tensor]:
    """Of the sum of all logits' squares, in bfloat16 as in a training."""
    torch.manual_seed(2)
    ids_BL = torch.randint(0, model.config.codebook_size, (2, layout.length))
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        features = model.features(ids_BL, layout)
        model.video_logits(features).float().square().mean().backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
def test_compiled_layers_have_the_gradients_of_plain_ones() -> None:
    if not compiling.can_compile():
        pytest.skip("no C++ compiler")
    model = BlockTransformer(transformer_config(grid=(3, 8, 16)))
    layouts = [sequence_layout(model.config, (1, 1, 16), length) for length in (1, 2, 3)]
    plain = [gradients(model, layout) for layout in layouts]
    compile_parts(model, Layer)
    for layout, expected in zip(layouts, plain, strict=True):
        found = gradients(model, layout)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            scale = expected[name].abs().max()
            assert (gradient - expected[name]).abs().max() <= 0.05 * scale, name


def test_only_long_runs_are_compiled_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "can_compile", lambda: True)
    short, long = (TrainConfig(lr=1e-3, batch_size=1, minutes=m).is_long for m in (2, 60))
    assert [pays_to_compile(CPU, short), pays_to_compile(CPU, long)] == [False, True]
    assert [pays_to_compile(CUDA, short), pays_to_compile(CUDA, long)] == [True, True]


def test_a_long_run_without_a_compiler_says_so_and_trains_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "can_compile", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert not pays_to_compile(CPU, is_long=True)
    assert caplog.messages == [
        "training without torch.compile, which needs a C++ compiler and Python's headers; with "
        "them, steps are about a seventh shorter"
    ]


@pytest.mark.slow
def test_a_missing_compiler_is_noticed() -> None:
    program = "from nbp_core.train.loop.compiling import can_compile; print(can_compile())"
    here = os.environ | {"CXX": "/nowhere/g++", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=False, capture_output=True, env=here)
    assert result.stdout == b"False\n"

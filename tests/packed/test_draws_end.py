"""A draw ends whatever the logits are: a native loop could not be stopped."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbp_core.runtime import runtime

PROGRAM = """
import sys, torch
from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.calls import draw
from nbp_core.packed.kernels.numbers import NUMBERS
logits = torch.randn(4, 700)
logits[0] = float(sys.argv[1])
logits[1, 300:] = float(sys.argv[1])
logits[2, 5] = float(sys.argv[1])
logits[3, ::2] = -float(sys.argv[1])
for config in (SamplingConfig(), SamplingConfig(top_k=20, top_p=0.5, temperature=0.3)):
    tokens = draw(logits.to(NUMBERS), config, torch.Generator())
    assert ((tokens >= 0) & (tokens < 700)).all()
"""


@pytest.mark.skipif(runtime().instructions is None, reason="nothing is compiled for this processor")
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "3e38"])
def test_a_draw_ends_whatever_the_logits_are(number: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, number], check=True, timeout=100)

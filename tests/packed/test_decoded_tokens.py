"""Compiled steps make the tokens of plain ones: here, and on an emulated aarch64 processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbp_core.processor import SETS, sets_here

ROOT = Path(__file__).parents[2]
EMULATED = os.environ.get("NBP_AARCH64_PYTHON")
"""A program that runs Python as on an aarch64 processor; .ci/aarch64 makes one."""


def check_tokens(python: str, instructions: str, timeout_s: float) -> None:
    """Runs decoded_tokens with an instruction set and compares the ways of decoding."""
    ran = subprocess.run(
        [python, "-m", "tests.packed.decoded_tokens", instructions],
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=timeout_s,
        text=True,
    )
    found = json.loads(ran.stdout)
    assert found["instructions"] == instructions
    plain = found["tokens"].pop("float32")["greedy"]
    assert len(set(plain)) > 5
    for tokens in found["tokens"].values():
        assert tokens["greedy"] == tokens["greedy by calls"]
        assert tokens["sampled"] == tokens["sampled by calls"]
        assert tokens["sampled"] != tokens["greedy"]
    if "float16" in found["tokens"]:  # float32 arithmetic, as plain PyTorch's
        assert found["tokens"]["float16"]["greedy"] == plain


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("instructions", [found.name for found in sets_here()])
def test_compiled_steps_make_the_tokens_of_plain_ones(instructions: str) -> None:
    check_tokens(sys.executable, instructions, timeout_s=600)


@pytest.mark.slow
@pytest.mark.timeout(3700)
@pytest.mark.skipif(EMULATED is None, reason="needs NBP_AARCH64_PYTHON, made by .ci/aarch64")
@pytest.mark.parametrize("instructions", [found.name for found in SETS if "neon" in found.name])
def test_neon_makes_the_tokens_of_plain_steps(instructions: str) -> None:
    assert EMULATED is not None
    check_tokens(EMULATED, instructions, timeout_s=3600)

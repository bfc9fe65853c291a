"""A process has one runtime; a program may choose it before any model is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbp_core.cli.main import main
from nbp_core.processor import SETS, is_slow, sets_here
from nbp_core.runtime import INSTRUCTION_NAMES, runtime, start


def printed_apart(program: str) -> str:
    command = [sys.executable, "-c", f"from nbp_core.runtime import runtime, start; {program}"]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=120).stdout


def test_the_best_instructions_and_all_threads_are_the_default() -> None:
    import torch

    found = [x for x in sets_here() if not is_slow(x)]
    assert runtime().instructions == (found[0] if found else None)
    assert runtime().num_threads == torch.get_num_threads()


@pytest.mark.parametrize("name", INSTRUCTION_NAMES)
def test_better_instructions_are_left_out(name: str) -> None:
    """Once a name is given, what is used is that set or a lesser one that this processor has."""
    used = printed_apart(f"found = start({name!r}).instructions; print(found and found.name)")
    lesser = INSTRUCTION_NAMES[INSTRUCTION_NAMES.index(name) :]
    has = [found.name for found in sets_here() if found.name == name or not is_slow(found)]
    assert used.strip() == next((x for x in lesser if x in has), "None")


@pytest.mark.parametrize("maker", ["Intel(R) Xeon(R) Processor", "AMD EPYC"])
def test_dot_products_of_bfloat16_are_used_where_they_are_faster(
    maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor with AVX-512 whose tiles are hidden, as in many virtual machines."""
    has = {"cpu_name": maker, "avx512_vnni": True, "avx512_bf16": True}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has)
    named = {found.name: found for found in SETS}
    monkeypatch.setattr("nbp_core.runtime.sets_here", lambda: list(named.values())[1:6])
    monkeypatch.setattr("nbp_core.runtime._started", [])
    usual = "avx512-vnni" if "Intel" in maker else "avx512-bf16"
    assert start().instructions == named[usual]
    monkeypatch.setattr("nbp_core.runtime._started", [])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    assert start("avx512-bf16").instructions == named["avx512-bf16"]


@pytest.mark.skipif("avx512" not in [x.name for x in sets_here()], reason="needs AVX-512")
def test_better_instructions_are_left_out_of_convolutions_too() -> None:
    program = (
        "import os; os.environ['ONEDNN_VERBOSE'] = '1'; start('avx2'); import torch; "
        "torch.nn.functional.conv2d(torch.ones(1, 64, 32, 32), torch.ones(64, 64, 3, 3))"
    )
    assert "isa:Intel AVX2" in printed_apart(program)


def test_pytorch_and_kernels_use_the_chosen_threads() -> None:
    program = (
        "import torch; start(num_threads=1); print(runtime().num_threads, torch.get_num_threads())"
    )
    assert printed_apart(program).split() == ["1", "1"]


def test_a_runtime_is_not_changed_once_it_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert start() == runtime() or runtime().is_limited
    with pytest.raises(ValueError, match="before any model is used"):
        start("none", runtime().num_threads + 1)
    for options, said in (
        (["--instructions", "mmx"], "must be one of"),
        (["--threads", "0"], "at least 1, not 0"),
    ):
        assert main([*options, "models"]) == 2
        assert said in capsys.readouterr().err

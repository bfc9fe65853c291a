import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbp_core.bench.floor import (
    Floor,
    Machine,
    StepFigures,
    floor_of,
    measure_machine,
    step_bytes,
    step_operations,
    time_block_shape,
)
from nbp_core.cli.main import main
from nbp_core.config.shapes import Size3
from nbp_core.packed.model import pack
from tests.support.models import build_transformer, save_pipeline, transformer_config

MACHINE = Machine("cpu", "test", 1, read_gb_s=10.0, matmul_tflop_s=0.1, dtype="float32")


def test_a_step_reads_every_weight_but_the_tables() -> None:
    model = pack(build_transformer(transformer_config("plain", modern=False)), "float32")
    width, layers, codes = 32, 2, 60
    inner = layers * (12 * width**2 + 13 * width)
    assert step_bytes(model, 0) == 4 * (inner + codes * width)
    assert step_bytes(model, 100) - step_bytes(model, 0) == 4 * 2 * layers * width * 100
    assert step_operations(model, 1, 0) == 2 * (layers * 12 * width**2 + codes * width)
    assert step_operations(model, 16, 100) == 16 * step_operations(model, 1, 100)


def step(num_bytes: int, num_operations: int, weight_format: str = "float32") -> StepFigures:
    return StepFigures(
        model="m", weights="w", weight_format=weight_format, block="1x1x1", protocol="k600",
        num_steps=1, prefill_ms=1.0, step_ms=1.0, num_bytes=num_bytes,
        num_operations=num_operations, timed_steps=1, block_len=1,
    )  # fmt: skip


def test_the_floor_is_the_larger_of_reading_and_multiplying() -> None:
    assert floor_of(step(10**9, 10), MACHINE) == Floor(100.0, "memory")
    assert floor_of(step(10, 10**9), MACHINE) == Floor(10.0, "arithmetic")
    whole = replace(MACHINE, int8_tflop_s=0.2)
    assert floor_of(step(10, 10**9, "int8"), whole) == Floor(5.0, "arithmetic")


def test_the_floor_of_a_small_model_is_that_of_the_cache_it_stays_in() -> None:
    size = 10**6
    cached = ((size // 8, 90.0), (size // 2, 40.0), (2 * size, 20.0))
    found = floor_of(step(size, 1), replace(MACHINE, cached_gb_s=cached))
    assert found.floor_ms == pytest.approx(size / 40e6)


def test_a_busy_measurement_does_not_raise_the_floor() -> None:
    """Another program may take a core or the memory during one of two measurements."""
    quiet = replace(MACHINE, int8_tflop_s=0.3, cached_gb_s=((2**20, 40.0),))
    busy = replace(
        MACHINE, read_gb_s=4.0, matmul_tflop_s=0.2, int8_tflop_s=0.1, cached_gb_s=((2**20, 50.0),)
    )
    best = replace(quiet, matmul_tflop_s=0.2, cached_gb_s=((2**20, 50.0),))
    assert quiet.best(busy) == busy.best(quiet) == best


@pytest.mark.parametrize(
    ("shape", "protocol", "steps"),
    [
        ((1, 1, 1), "k600", 768),
        ((1, 1, 16), "k600", 48),
        ((1, 1, 16), "ucf", 95),
        ((1, 16, 16), "k600", 3),
        ((1, 16, 16), "ucf", 260),
    ],
)
def test_every_block_shape_is_timed(shape: Size3, protocol: str, steps: int) -> None:
    model = pack(build_transformer(transformer_config()), "float32")
    figures = time_block_shape(model, shape, protocol, "none", max_steps=3)
    assert figures.num_steps == steps
    assert 1 <= figures.timed_steps <= 3
    assert figures.step_ms > 0
    assert figures.num_bytes > step_bytes(model, 0)
    assert figures.num_operations > step_operations(model, figures.block_len, 0)
    assert figures.total_s > steps * figures.step_ms / 2e3


@pytest.mark.slow
def test_the_verb_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_pipeline(tmp_path).parent
    out = tmp_path / "bench.json"
    options = ["--presets", "--blocks", "1x16x16", "--folder", str(folder), "--out", str(out)]
    assert main(["bench", *options, "--json"]) == 0
    report = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert {row["protocol"] for row in report["rows"]} == {"k600", "ucf"}
    assert report["machine"]["read_gb_s"] > 0
    for row in report["rows"]:
        assert row["ratio"] == pytest.approx(row["step_ms"] / row["floor_ms"])
    assert report["clips"][0]["frames_s"] > 0


def test_the_machine_is_measured() -> None:
    machine = measure_machine(torch.device("cpu"), torch.float32, "this one")
    assert machine.read_gb_s > 0.1
    assert machine.matmul_tflop_s > 0.001
    assert all(size > 0 and rate > 0.1 for size, rate in machine.cached_gb_s)

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbp_core.bench.floor import (
    Machine,
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


def test_the_floor_is_the_larger_of_reading_and_multiplying() -> None:
    model = pack(build_transformer(transformer_config()), "float32")
    seconds, bound = floor_of(model, MACHINE, 1, 0)
    assert (seconds, bound) == (step_bytes(model, 0) / 10e9, "memory")
    seconds, bound = floor_of(model, MACHINE, 1000, 0)
    assert (seconds, bound) == (step_operations(model, 1000, 0) / 0.1e12, "arithmetic")


def test_the_floor_of_a_small_model_is_that_of_the_cache_it_stays_in() -> None:
    model = pack(build_transformer(transformer_config()), "float32")
    size = step_bytes(model, 0)
    cached = ((size // 8, 90.0), (size // 2, 40.0), (2 * size, 20.0))
    seconds, _ = floor_of(model, replace(MACHINE, cached_gb_s=cached), 1, 0)
    assert seconds == size / 40e9


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
    figures = time_block_shape(model, MACHINE, shape, protocol, "none", max_steps=3)
    assert figures.num_steps == steps
    assert 1 <= figures.timed_steps <= 3
    assert figures.step_ms > 0
    assert figures.ratio == pytest.approx(figures.step_ms / figures.floor_ms)
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
    assert report["clips"][0]["frames_s"] > 0


def test_the_machine_is_measured() -> None:
    machine = measure_machine(torch.device("cpu"), torch.float32, "this one")
    assert machine.read_gb_s > 0.1
    assert machine.matmul_tflop_s > 0.001
    assert all(size > 0 and rate > 0.1 for size, rate in machine.cached_gb_s)

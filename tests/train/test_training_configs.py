"""The config files that the project brings: each loads and builds its model, without memory."""

from pathlib import Path

import pytest
import torch
from accelerate.commands.config import load_config_from_file

from nbp_core import BlockTransformer, VideoTokenizer
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import PAPER_PRESETS, RELEASED_LEVELS, TOKENIZER_PRESETS
from nbp_core.train.compute import step_tflop
from nbp_core.train.run_config import TokenizerRun, TransformerRun, read_run
from tests.support.models import ACTIONS

CONFIGS = Path(__file__).resolve().parents[2] / "nbp_core" / "train" / "configs"
TOKENIZERS = sorted(CONFIGS.glob("paper-tokenizer-*.json"))
TRANSFORMERS = sorted(set(CONFIGS.glob("*.json")) - set(TOKENIZERS))
CODES = 64_000
MEASURED_AT = 4_375
"""Codes of `nano`, whose tokens the comparisons are made on."""


def stem(path: Path) -> str:
    return path.stem


def config_of(path: Path, codes: int) -> TransformerConfig:
    return read_run(path, TransformerRun()).model.config(codes, ACTIONS)


def on_meta(config: TransformerConfig) -> BlockTransformer:
    with torch.device("meta"):
        return BlockTransformer(config)


@pytest.mark.parametrize("path", TOKENIZERS, ids=stem)
def test_the_papers_tokenizer_is_the_released_one(path: Path) -> None:
    run = read_run(path, TokenizerRun())
    preset = TOKENIZER_PRESETS["magvit2-64k"]
    assert run.model.stages == preset.stages
    assert run.model.levels == RELEASED_LEVELS
    with torch.device("meta"):
        built = VideoTokenizer(run.model)
    assert sum(p.numel() for p in built.parameters()) == 370_372_105
    assert run.train.batch_size == 256


@pytest.mark.parametrize("path", TRANSFORMERS, ids=stem)
def test_a_transformers_config_builds_its_model(path: Path) -> None:
    run = read_run(path, TransformerRun())
    model = on_meta(config_of(path, CODES))
    for shape in run.recipe.shapes:
        assert sequence_layout(model.config, shape).length > 0
    if path.stem.startswith("paper-"):
        preset = PAPER_PRESETS[{"xl": "XL", "xxl": "XXL", "3b": "3B"}[path.stem.split("-")[-1]]]
        sizes = ("num_layers", "width", "num_heads", "rope", "rms_norm", "swiglu", "max_len")
        assert all(getattr(model.config, s) == getattr(preset, s) for s in sizes)
        # In plain models, only the codebook; in hybrid ones, 32,000 words and 16 special ids too.
        assert model.config.vocab_size == (64_000 if "k600" in path.stem else 96_016)


@pytest.mark.parametrize("processes", [8, 32])
def test_the_papers_batches_divide_by_gpus(processes: int) -> None:
    papers = [path for path in TRANSFORMERS if path.stem.startswith("paper-")]
    trains = [read_run(path, TransformerRun()).train for path in papers]
    trains += [read_run(path, TokenizerRun()).train for path in TOKENIZERS]
    assert len(trains) == 8
    for train in trains:
        parts = processes * (train.accumulate if processes == 8 else 1)
        assert train.batch_size % parts == 0


def test_the_comparisons_have_one_budget_and_it_is_no_hours() -> None:
    paths = sorted(CONFIGS.glob("compare-*.json"))
    runs = [read_run(path, TransformerRun()) for path in paths]
    assert len({run.train for run in runs}) == 1
    model = on_meta(config_of(CONFIGS / "compare-row.json", MEASURED_AT))
    step = step_tflop(model, sequence_layout(model.config, (1, 1, 16)), runs[0].train.batch_size)
    budget = runs[0].train.tflop
    assert budget is not None
    assert 500 < budget / step < 2_000


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=stem)
def test_accelerate_reads_its_configs(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.num_processes == 8
    assert config.mixed_precision == "bf16"

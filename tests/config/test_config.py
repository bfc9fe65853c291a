import json
import re
from dataclasses import replace

import pytest

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.models import TokenizerConfig, TransformerConfig
from nbp_core.config.presets import PAPER_PRESETS, TOKENIZER_PRESETS, elastic
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import format_block_shape, parse_block_shape


@pytest.mark.parametrize(
    "config",
    [
        *TOKENIZER_PRESETS.values(),
        *PAPER_PRESETS.values(),
        elastic("tiny", 4, 192, 4375, ("door-open", "pan-left")),
        SamplingConfig(block_shape=(1, 1, 16), seed=7),
        SamplingConfig(),
    ],
)
def test_json_comes_back_equal(
    config: TokenizerConfig | TransformerConfig | SamplingConfig,
) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_and_missing_settings_are_refused() -> None:
    data = TOKENIZER_PRESETS["nano"].to_dict()
    with pytest.raises(ValueError, match="unknown setting 'colour'"):
        TokenizerConfig.from_dict({**data, "colour": 1})
    del data["levels"]
    with pytest.raises(ValueError, match="levels"):
        TokenizerConfig.from_dict(data)


def test_settings_of_earlier_versions_are_ignored() -> None:
    sampling, model = SamplingConfig(seed=3), elastic("tiny", 4, 192, 4375, ("door-open",))
    assert SamplingConfig.from_dict({**sampling.to_dict(), "strength": None}) == sampling
    assert TransformerConfig.from_dict({**model.to_dict(), "second_look": False}) == model


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"stages": 5}, "stages must be a list, not 5"),
        ({"levels": []}, "levels must be a list of numbers of at least 2, not []"),
        ({"levels": [1, 5]}, "levels must be a list of numbers of at least 2, not [1, 5]"),
        ({"levels": [2**31, 2]}, "levels have 4,294,967,296 codes, more than 2,147,483,648"),
        (
            {"levels": [10**400]},
            f"every number of levels must be 2 to 2,147,483,648, not [1{'0' * 35}...",
        ),
        ({"patch": 0}, "patch must be 1 to 64, not 0"),
        (
            {"io_kernel": [1, 2, 3]},
            "io_kernel must be 1 or 3 frames and odd numbers of pixels, not [1, 2, 3]",
        ),
        (
            {"up_kernel": [5, 3, 3]},
            "up_kernel must be 1 or 3 frames and odd numbers of pixels, not [5, 3, 3]",
        ),
        ({"norm_groups": 0}, "norm_groups must be 1 to 65,536, not 0"),
        ({"strides": [[2, 0, 2], [2, 1, 1]]}, "every number of strides must be 1 to 64"),
        ({"name": None}, "name must be text, not null"),
    ],
)
def test_a_mistyped_tokenizer_is_refused_with_its_place(
    change: dict[str, object], sentence: str
) -> None:
    data = {**TOKENIZER_PRESETS["nano"].to_dict(), **change}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        TokenizerConfig.from_dict(data)


def test_a_nested_setting_is_named_with_its_place() -> None:
    data = TOKENIZER_PRESETS["nano"].to_dict()
    data["stages"][1]["kernel"] = [3, "3", 3]
    sentence = 'stages[1].kernel[1] must be a whole number, not "3"'
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        TokenizerConfig.from_dict(data)


@pytest.mark.parametrize("text", ["1x16", "axbxc", "0x1x1", "1x1x-4", "", "1x1x16x1", "1x1x\u00b2"])
def test_block_shapes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="three numbers"):
        parse_block_shape(text)


def test_block_shape_round_trip() -> None:
    assert format_block_shape(parse_block_shape("2x1x8")) == "2x1x8"


def test_sampling_defaults_are_the_papers() -> None:
    config = SamplingConfig()
    assert (config.top_k, config.top_p, config.temperature) == (16_000, 0.9, 1.0)


@pytest.mark.parametrize(
    "setting",
    [
        {"top_p": 1.5},
        {"top_p": 0.0},
        {"top_p": 1e-7},
        {"top_p": 1e-40},
        {"top_k": 0},
        {"top_k": 2.5},
        {"seed": 0.5},
        {"temperature": 1e-12},
        {"temperature": 1e-40},
        {"top_k": 10**30},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"seed": -1},
        {"guidance_scale": -2.0},
    ],
)
def test_sampling_out_of_range_is_refused_by_name(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        SamplingConfig(**setting)  # type: ignore[arg-type]


def test_vocabulary_of_the_released_hybrid_models() -> None:
    config = TransformerConfig(
        name="ucf",
        num_layers=24,
        width=1536,
        num_heads=16,
        layout="hybrid",
        codebook_size=64_000,
        num_conditions=32_000,
        prefix_len=8,
    )
    assert config.vocab_size == 96_016
    assert (config.first_condition_id, config.first_video_id) == (16, 32_016)


@pytest.mark.parametrize("layout", ["plain", "hybrid"])
def test_learned_positions_are_enough_for_a_clip(layout: str) -> None:
    fits = {"plain": 5 * 16 * 16 - 16, "hybrid": 3 + 5 * 16 * 16}[layout]
    settings = {
        "name": "x", "num_layers": 1, "width": 32, "num_heads": 1, "layout": layout,
        "codebook_size": 60, "max_len": fits, "block_shape": [1, 1, 16],
        "prefix_len": 3 if layout == "hybrid" else 0,
        "num_conditions": 4 if layout == "hybrid" else 0,
    }  # fmt: skip
    assert sequence_layout(TransformerConfig.from_dict(settings)).length == fits
    with pytest.raises(
        ValueError, match=rf"^max_len must be at least {fits:,}, .* not {fits - 1:,}$"
    ):
        TransformerConfig.from_dict({**settings, "max_len": fits - 1})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mlp_ratio": 0.05}, "mlp_ratio 0.05 is too small for width 192"),
        ({"num_conditions": 0, "actions": ()}, "a prefix of 1 tokens needs num_conditions"),
        ({"name": "t\udcff"}, r'name must be Unicode text, not "t\\udcff"$'),
        ({"actions": ("t\udcff",)}, r'actions must be Unicode text, not "t\\udcff"$'),
        ({"keys": ("a", "b", "c")}, "4 actions and keys need as many num_conditions, not 2"),
    ],
)
def test_a_transformer_that_cannot_be_built_is_refused(
    change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(elastic("tiny", 4, 192, 4375, ("door-open",)), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "shape",
    [(), (1, 16), (1, 1, 1, 16), (1, 0, 16), (1, -1, 16), (1, 1, 8.0), (1, 1, True), [1, 1, 16],
     "1x1x16", 16, (1, 1, None)],
)  # fmt: skip
def test_a_block_shape_that_is_none_is_refused_in_one_sentence(shape: object) -> None:
    with pytest.raises(ValueError, match=r"^block shape must be three whole numbers"):
        SamplingConfig(block_shape=shape)  # type: ignore[arg-type]

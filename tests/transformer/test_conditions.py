from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import TOKENIZER_PRESETS
from nbp_core.generation.offer import ModelOffer
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.prompts import UCF101_CLASSES, prompt_ids, prompt_text
from tests.support.models import ACTIONS, build_pipeline, transformer_config

WORDS = ["<unk>", "<s>", "</s>", "apply", "eye", "makeup", "yo", "front", "crawl"]


def text_model(num_conditions: int = 100) -> TransformerConfig:
    return TransformerConfig(
        name="ucf", num_layers=1, width=32, num_heads=1, layout="hybrid", codebook_size=60,
        num_conditions=num_conditions, prefix_len=8,
    )  # fmt: skip


def write_tokenizer(folder: Path, words: list[str]) -> None:
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def test_all_classes_of_ucf101() -> None:
    assert len(set(UCF101_CLASSES)) == len(UCF101_CLASSES) == 101
    assert list(UCF101_CLASSES) == sorted(UCF101_CLASSES, key=str.lower)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("Archery", "archery"),
        ("HandstandPushups", "handstand pushups"),
    ],
)
def test_class_names_become_words(name: str, text: str) -> None:
    assert prompt_text(name) == text


def test_a_prompt_is_bos_words_and_eos_to_its_length(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, WORDS)
    assert prompt_ids("ApplyEyeMakeup", tmp_path, 8) == [1, 3, 4, 5, 2, 2, 2, 2]
    assert prompt_ids("ApplyEyeMakeup", tmp_path, 3) == [1, 3, 4]
    ids, nulls = Conditions(text_model(), tmp_path).ids("YoYo", 1.0)
    assert ids is not None
    assert ids.tolist() == [[16 + i for i in (1, 6, 6, 2, 2, 2, 2, 2)]]
    assert nulls is None


def test_only_a_text_model_always_needs_a_name() -> None:
    tokens = TOKENIZER_PRESETS["nano"]
    assert ModelOffer(text_model(), tokens).needs_action
    assert not ModelOffer(transformer_config(), tokens).needs_action
    assert not ModelOffer(transformer_config("plain"), tokens).needs_action


def test_what_a_text_model_cannot_do(tmp_path: Path) -> None:
    asked = Conditions(text_model(), tmp_path)
    with pytest.raises(ValueError, match=r"put it into the model folder"):
        asked.ids("YoYo", 1.0)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cannot be read"):
        asked.ids("YoYo", 1.0)
    write_tokenizer(tmp_path, ["<unk>", "yo"])
    with pytest.raises(ValueError, match=r"is not LLaMA's"):
        asked.ids("YoYo", 1.0)
    write_tokenizer(tmp_path, WORDS)
    with pytest.raises(ValueError, match="a larger vocabulary than model 'ucf'"):
        Conditions(text_model(num_conditions=5), tmp_path).ids("YoYo", 1.0)
    with pytest.raises(ValueError, match="needs one of its class names"):
        asked.ids(None, 1.0)
    with pytest.raises(ValueError, match="guidance_scale must be 1"):
        asked.ids("YoYo", 2.0)
    with pytest.raises(ValueError, match="the nearest are YoYo"):
        asked.ids("yo-yo", 1.0)


def test_an_elastic_model_has_one_id_an_action() -> None:
    config = transformer_config()
    asked = Conditions(config)
    assert asked.names == ACTIONS
    ids, nulls = asked.ids("drawer-close", 1.5)
    assert ids is not None
    assert nulls is not None
    assert ids.tolist() == [[config.first_condition_id + 1]]
    assert nulls.tolist() == [[config.first_condition_id + len(ACTIONS)]]
    same, none = asked.ids(None, 1.5)
    assert same is not None
    assert torch.equal(same, nulls)
    assert none is None


def test_a_plain_model_has_none() -> None:
    pipeline = build_pipeline("plain")
    assert pipeline.actions == ()
    with pytest.raises(ValueError, match="has no actions"):
        pipeline.generate("door-open")

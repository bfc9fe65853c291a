import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nbp_core import BlockTransformer, VideoTokenizer
from nbp_core.checkpoint import CheckpointError, describe_models, save_model
from tests.small_models import build_tokenizer, save_pipeline


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    weights = tokenizer.state_dict()
    save_model(tmp_path / "t", "tokenizer", tokenizer.config, weights, dtype=torch.float32)
    loaded = VideoTokenizer.from_pretrained(tmp_path / "t")
    assert loaded.config == tokenizer.config
    assert not loaded.training
    clip = torch.rand(1, 3, 5, 32, 32)
    torch.testing.assert_close(loaded(clip), tokenizer(clip), atol=1e-5, rtol=0)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def scramble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not safetensors at all")


def edit_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def widen(folder: Path) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["config"]["width"] *= 2
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (remove("config.json"), "has no config.json"),
        (remove("model.safetensors"), "has no model.safetensors"),
        (truncate, "model.safetensors of model 'tiny' is corrupt"),
        (scramble, "is corrupt"),
        (widen, "does not fit its config.json"),
        (edit_config(format=99), "has format 99"),
        (edit_config(kind="pickle"), "does not name a model kind"),
        (edit_config(config={"name": "x"}), "not a complete TransformerConfig"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
    ],
)
def test_damaged_folders_are_refused_in_one_sentence(
    tmp_path: Path, harm: Callable[[Path], None], sentence: str
) -> None:
    folder = save_pipeline(tmp_path)
    harm(folder)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        BlockTransformer.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_tokenizer_is_no_transformer(tmp_path: Path) -> None:
    save_pipeline(tmp_path)
    with pytest.raises(CheckpointError, match="is a tokenizer"):
        BlockTransformer.from_pretrained(tmp_path / "nano")


def test_models_are_described_without_loading(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path)
    tokenizer, transformer = describe_models(tmp_path)
    assert (tokenizer.name, tokenizer.kind) == ("nano", "tokenizer")
    assert transformer.actions == ("door-open", "drawer-close", "pan-left")
    model = BlockTransformer.from_pretrained(folder)
    assert transformer.num_parameters == sum(p.numel() for p in model.parameters())

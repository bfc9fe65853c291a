import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nbp_core import BlockTransformer, VideoTokenizer
from nbp_core.checkpoint import describe_models, save_model, summarize
from nbp_core.config.description import CheckpointError
from nbp_core.config.weight_files import weight_files, weights_sha256
from tests.support.broken_models import BROKEN, add_broken, is_sentence
from tests.support.models import (
    build_tokenizer,
    build_transformer,
    save_pipeline,
    transformer_config,
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    weights = tokenizer.state_dict()
    save_model(tmp_path / "t", "tokenizer", tokenizer.config, weights, dtype=torch.float32)
    loaded = VideoTokenizer.from_pretrained(tmp_path / "t")
    assert loaded.config == tokenizer.config
    assert not loaded.training
    clip = torch.rand(1, 3, 5, 32, 32)
    torch.testing.assert_close(loaded(clip), tokenizer(clip), atol=1e-5, rtol=0)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_saved_model_is_for_those_whom_the_umask_lets(
    tmp_path: Path, umask: int, mode: int
) -> None:
    tokenizer = build_tokenizer()
    before = os.umask(umask)
    try:
        save_model(tmp_path, "tokenizer", tokenizer.config, tokenizer.state_dict())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize("use", [VideoTokenizer.from_pretrained, weights_sha256, summarize])
def test_unreadable_weights_are_called_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], object]
) -> None:
    tokenizer = build_tokenizer()
    save_model(tmp_path / "t", "tokenizer", tokenizer.config, tokenizer.state_dict())
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        # The superuser, who may run this test, is refused nothing.
        if path.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError) as error:
        use(tmp_path / "t")
    expected = "model.safetensors of model 't' cannot be read: permission denied"
    assert str(error.value) == expected


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


def make_complex(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: value.to(torch.complex64) for name, value in load_file(path).items()}
    save_file(weights, path)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (remove("config.json"), "has no config.json"),
        (remove("model.safetensors"), "has no model.safetensors"),
        (truncate, "model.safetensors of model 'tiny' is corrupt"),
        (scramble, "is corrupt"),
        (widen, "do not fit the configuration"),
        (edit_config(format=99), "has format 99"),
        (edit_config(format="9" * 9000), 'has format "9{36}\\.\\.\\.; '),
        (edit_config(tokenizer=["x" * 9000]), 'must be an object, not \\["x{35}\\.\\.\\.$'),
        (make_complex, "are not all real numbers"),
        (edit_config(kind="pickle"), "does not name a model kind"),
        (edit_config(config={"name": "x"}), "'tiny': num_layers is missing"),
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
    (tokenizer, transformer), faults = describe_models(tmp_path)
    assert faults == []
    assert (tokenizer.name, tokenizer.kind) == ("nano", "tokenizer")
    assert transformer.actions == ("door-open", "drawer-close", "pan-left")
    model = BlockTransformer.from_pretrained(folder)
    assert transformer.num_parameters == sum(p.numel() for p in model.parameters())


def shard(folder: Path, num_bytes: int) -> Path:
    model = build_transformer(transformer_config())
    weights = model.state_dict()
    save_model(folder, "transformer", model.config, weights, dtype=None, max_shard_bytes=num_bytes)
    return folder


def test_large_weights_lie_in_shards(tmp_path: Path) -> None:
    whole, parts = shard(tmp_path / "whole", 10**9), shard(tmp_path / "parts", 40_000)
    assert [path.name for path in weight_files(whole)] == ["model.safetensors"]
    assert len(weight_files(parts)) > 2
    one, many = BlockTransformer.from_pretrained(whole), BlockTransformer.from_pretrained(parts)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, many.state_dict()[name])
    assert summarize(parts).num_parameters == summarize(whole).num_parameters
    before = weights_sha256(parts)
    path = weight_files(parts)[-1]
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    assert weights_sha256(parts) != before


def lose_a_shard(folder: Path) -> None:
    weight_files(folder)[1].unlink()


def point_outside(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    path.write_text(path.read_text().replace("model-00001", "../model-00001"))


def empty_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lose_a_shard, "has no model-00002"),
        (point_outside, "names a file elsewhere"),
        (empty_index, "lists no files"),
    ],
)
def test_damaged_shards_are_refused(
    tmp_path: Path, harm: Callable[[Path], None], sentence: str
) -> None:
    folder = shard(tmp_path / "parts", 40_000)
    harm(folder)
    with pytest.raises(CheckpointError, match=sentence):
        BlockTransformer.from_pretrained(folder)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, 1e30])
def test_weights_that_are_not_finite_are_refused_in_one_sentence(
    number: float, tmp_path: Path
) -> None:
    """1e30 is finite as it is stored, and not in float16, which decoding reads."""
    folder = save_pipeline(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights = {name: tensor.float() for name, tensor in weights.items()}
    weights["layers.1.attention.proj.weight"][3, 5] = number
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'tiny' are not all finite numbers \(in layers.1"):
        BlockTransformer.from_pretrained(folder, dtype=torch.float16)


def test_a_broken_config_is_one_sentence_and_spares_the_others(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path)
    add_broken(tmp_path, folder / "model.safetensors")
    models, faults = describe_models(tmp_path)
    assert [model.name for model in models] == ["nano", "tiny"]
    assert len(faults) == len(BROKEN)
    for (name, (_, sentence)), fault in zip(sorted(BROKEN.items()), faults, strict=True):
        assert repr(name) in fault
        assert sentence in fault
        assert is_sentence(fault)
        with pytest.raises(CheckpointError) as caught:
            BlockTransformer.from_pretrained(tmp_path / name)
        assert str(caught.value) == fault


def test_a_byte_order_mark_before_a_config_is_ignored(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path)
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert BlockTransformer.from_pretrained(folder).config == transformer_config()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_model_may_lie_anywhere(tmp_path: Path) -> None:
    """Also where the folder's name is not valid Unicode."""
    folder = tmp_path / os.fsdecode(b"mod\xe8les")
    tokenizer = build_tokenizer()
    save_model(folder / "t", "tokenizer", tokenizer.config, tokenizer.state_dict())
    assert summarize(folder / "t").num_parameters > 0
    loaded = VideoTokenizer.from_pretrained(folder / "t")
    assert loaded.config == tokenizer.config
    models, faults = describe_models(folder)
    assert ([model.name for model in models], faults) == (["t"], [])
    models, faults = describe_models(save_other_bytes(tmp_path / "more"))
    assert models == []
    assert faults == [r"model folder 't\udce8' has a name that is not valid Unicode"]


def save_other_bytes(folder: Path) -> Path:
    tokenizer = build_tokenizer()
    name = os.fsdecode(b"t\xe8")
    save_model(folder / name, "tokenizer", tokenizer.config, tokenizer.state_dict())
    return folder

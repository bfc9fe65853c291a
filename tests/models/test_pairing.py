"""Which tokenizer a transformer names, however its folder is reached."""

from __future__ import annotations

import ntpath
import os
import shutil
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest

from nbp_core.checkpoint import save_model
from nbp_core.config import description
from nbp_core.config.description import CheckpointError, name_of_folder
from nbp_core.config.tokenizer_folder import tokenizer_folder
from nbp_core.config.weight_files import weights_sha256
from nbp_core.generation.offer import read_offer
from nbp_core.models.catalogue import fingerprint
from nbp_core.models.pairing import find_tokenizer
from tests.support.models import build_tokenizer, save_pipeline

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")


def test_a_link_to_one_model_folder_works(tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "models")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "mine"
    link.symlink_to(model)
    assert find_tokenizer(link) == find_tokenizer(model)
    assert fingerprint(link) == fingerprint(model)
    relative = Path(os.path.relpath(link))
    assert find_tokenizer(relative)[1] == find_tokenizer(model)[1]


def test_a_tokenizer_beside_the_link_comes_first(tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "models")
    links = tmp_path / "links"
    links.mkdir()
    for name in ("tiny", "nano"):
        (links / name).symlink_to(model.parent / name)
    assert find_tokenizer(links / "tiny")[0] == links / "nano"


def test_a_missing_tokenizer_is_named_as_the_model_names_it(tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "models")
    (model.parent / "nano").rename(tmp_path / "away")
    links = tmp_path / "links"
    links.mkdir()
    (links / "link").symlink_to(model)
    for find in (find_tokenizer, read_offer):
        with pytest.raises(CheckpointError) as error:
            find(links / "link")
        assert str(error.value) == (
            "model 'link' needs the tokenizer that its config.json names, '../nano', which is "
            "missing: copy that folder beside the model's"
        )


def test_a_copied_model_finds_its_tokenizer_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under any name, and not another tokenizer that lies there too."""
    trained = save_pipeline(tmp_path / "runs")
    models = tmp_path / "models"
    models.mkdir()
    trained.rename(models / "mine")
    other = build_tokenizer(seed=1)
    save_model(models / "another", "tokenizer", other.config, other.state_dict())
    (models / "broken").mkdir()
    with pytest.raises(CheckpointError, match="which is missing"):
        find_tokenizer(models / "mine")
    (tmp_path / "runs" / "nano").rename(models / "renamed")
    assert find_tokenizer(models / "mine")[0] == models / "renamed"
    assert read_offer(models / "mine").tokenizer_name == "test-tokenizer"
    monkeypatch.chdir(models)
    assert find_tokenizer(Path("mine"))[0].samefile("renamed")


def test_a_copied_model_reads_the_tokenizers_beside_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page asks for its tokenizer at every event."""
    model = save_pipeline(tmp_path / "runs").rename(tmp_path / "mine")
    other = build_tokenizer(seed=1)
    save_model(tmp_path / "another", "tokenizer", other.config, other.state_dict())
    (tmp_path / "runs" / "nano").rename(tmp_path / "renamed")
    read = list[str]()

    def count(folder: Path) -> str:
        read.append(folder.name)
        return weights_sha256(folder)

    monkeypatch.setattr("nbp_core.config.tokenizer_folder.weights_sha256", count)
    for _ in range(3):
        assert read_offer(model).tokenizer_name == "test-tokenizer"
    assert read == ["another", "renamed"]
    shutil.copytree(tmp_path / "renamed", tmp_path / "another", dirs_exist_ok=True)
    assert tokenizer_folder(model) == tmp_path / "another"
    assert read == ["another", "renamed", "another"]


class WindowsPath(PureWindowsPath):
    """A path that is absolute already."""

    def absolute(self) -> Any:
        return self


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [(r"C:\models\nano", "../../../models/nano"), (r"D:\models\nano", "D:/models/nano")],
)
def test_a_model_trained_on_windows_names_its_tokenizer_for_all_systems(
    monkeypatch: pytest.MonkeyPatch, tokenizer: str, name: str
) -> None:
    monkeypatch.setattr(description, "os", SimpleNamespace(path=ntpath, sep=ntpath.sep))
    model: Any = WindowsPath(r"C:\runs\one\model")
    other: Any = WindowsPath(tokenizer)
    assert name_of_folder(model, other) == name

"""Which tokenizer a transformer names, however its folder is reached."""

from __future__ import annotations

import ntpath
import os
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest

from nbp_core.checkpoint import CheckpointError
from nbp_core.config import description
from nbp_core.config.description import name_of_folder
from nbp_core.models.catalogue import fingerprint
from nbp_core.models.pairing import find_tokenizer
from tests.support.models import save_pipeline

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
    (model.parent / "nano").rename(model.parent / "other")
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(CheckpointError, match="no model folder 'nano'"):
        find_tokenizer(tmp_path / "link")


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

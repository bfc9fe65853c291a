"""Where the library of clips lies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.library import data_folder


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="they have no XDG folders")
def test_a_user_without_a_home_names_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert data_folder() == Path("/data/nbp-studio/clips")
    monkeypatch.delenv("XDG_DATA_HOME")
    with pytest.raises(ValueError, match="no home folder"):
        data_folder()

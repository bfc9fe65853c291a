"""Where the library of clips lies, and what it makes of odd folders."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from app.library import Library, data_folder
from app.parts.made import made_clips
from tests.support.engine import fake_session

MANIFEST: dict[str, Any] = {
    "block_shape": "1x1x16", "sampling": {"seed": 1}, "action": None, "model": "tiny",
}  # fmt: skip


def add(library: Library, clip_id: str, manifest: dict[str, Any]) -> None:
    record = {"model": "tiny", "manifest": manifest, "num_frames": 17, "is_complete": True}
    with library.new(clip_id, "a-clip", record) as folder:
        (folder / "a-file").write_text("text")


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


def test_a_clip_that_menus_cannot_name_is_left_out(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "models", clips=tmp_path / "clips")
    library = session.library
    add(library, "whole", MANIFEST)
    add(library, "nameless", {k: v for k, v in MANIFEST.items() if k != "model"})
    # Half of a pair of surrogates: valid JSON, but no text that can be sent to a page.
    add(library, "unsendable", MANIFEST | {"action": json.loads('"\\ud800"')})
    assert [clip.id for clip in made_clips(session, None)] == ["whole"]
    session.close()


def test_the_space_is_counted_while_clips_come_and_go(tmp_path: Path) -> None:
    """Another page or another studio may delete a clip at the same moment."""
    library, is_over = Library(tmp_path, 10**9), threading.Event()
    faults: list[BaseException] = []

    def count() -> None:
        try:
            while not is_over.is_set():
                library.num_bytes()
        except OSError as error:
            faults.append(error)

    counting = threading.Thread(target=count)
    counting.start()
    for number in range(60):
        add(library, f"clip-{number}", MANIFEST)
        for clip in library.clips():
            library.delete(clip)
    is_over.set()
    counting.join()
    assert faults == []

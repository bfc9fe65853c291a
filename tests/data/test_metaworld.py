"""Rendered clips of actions, without the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbp_core.cli.main import main
from nbp_core.data import metaworld


def test_an_expert_that_never_succeeds_is_a_sentence_and_leaves_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metaworld, "import_metaworld", lambda: (None, None, None))
    monkeypatch.setattr(metaworld, "_roll_out", lambda *_: (None, []))
    assert main(["data", "metaworld", str(tmp_path / "out"), "--actions", "reach"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("failed 20 times in a row at reach: try another --seed")
    assert not list((tmp_path / "out").iterdir())


def test_shards_that_are_kept_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metaworld, "import_metaworld", lambda: (None, None, None))
    for index in range(len(metaworld.METAWORLD_ACTIONS)):
        (tmp_path / f"train-{index:02d}.tar").write_bytes(b"rendered")
    assert main(["data", "metaworld", str(tmp_path), "--clips", "300"]) == 0
    sentence = "50 of the shards are there already (train-00.tar, train-01.tar, train-02.tar, ...)"
    assert caplog.messages == [f"{sentence}: delete a shard to render it anew"]

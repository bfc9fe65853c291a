"""The files of a run: written whole or not at all, mended or named when they are torn."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from nbp_core.checkpoint import save_model
from nbp_core.train.loop.log import METRICS_FILE, RunLog
from tests.support.models import build_tokenizer
from tests.train.test_trainer import losses, run_transformer


def write_metrics(folder: Path, *lines: str) -> Path:
    path = folder / METRICS_FILE
    path.write_text("\n".join(lines))
    return path


def test_a_torn_last_line_of_figures_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 3)]
    path = write_metrics(tmp_path, *whole, '{"step": 4, "lo')
    RunLog(tmp_path, 2).write(3, 1.0, {"loss": 2.0})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert "metrics.jsonl, line 4" in caplog.text


@pytest.mark.parametrize(
    "line", ['{"step": 2, "lo', "5", "{}", '{"step": 1e400}', "[" * 100_000, '{"step": NaN}']
)
def test_another_torn_line_is_named(tmp_path: Path, line: str) -> None:
    write_metrics(tmp_path, '{"step": 1}', line, '{"step": 3}')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not the figures of a step"):
        RunLog(tmp_path, 3)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_checkpoint_is_a_sentence(tmp_path: Path, share: float) -> None:
    run_transformer(tmp_path, 3, stop_after=2)
    path = tmp_path / "run" / "checkpoint.pt"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"checkpoint\.pt in run folder 'run' is cut or damaged"):
        run_transformer(tmp_path, 3)


def test_another_models_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    run_transformer(tmp_path, 3, stop_after=2)
    with pytest.raises(ValueError, match="belongs to another model or to other"):
        run_transformer(tmp_path, 3, num_layers=3)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos")]
)
def test_a_full_disk_keeps_the_last_checkpoint_and_no_part_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run_transformer(tmp_path, 3, stop_after=2)
    run = tmp_path / "run"
    before = (run / "checkpoint.pt").read_bytes()

    def save(state: Any, path: Path) -> None:
        path.write_bytes(b"a part")
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", save)
        with pytest.raises(ValueError, match=r"checkpoint\.pt in run folder 'run' cannot be"):
            run_transformer(tmp_path, 3)
    assert (run / "checkpoint.pt").read_bytes() == before
    assert not list(run.glob("*.partial"))
    run_transformer(tmp_path, 3)
    assert len(losses(tmp_path)) == 3


def test_what_a_killed_run_left_of_a_checkpoint_goes(tmp_path: Path) -> None:
    run_transformer(tmp_path, 3, stop_after=2)
    (tmp_path / "run" / "checkpoint.partial").write_bytes(b"a part")
    run_transformer(tmp_path, 3)
    assert not list((tmp_path / "run").glob("*.partial"))


def test_a_model_is_saved_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_tokenizer()
    save_model(tmp_path / "m", "tokenizer", model.config, model.state_dict())
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}

    def save(weights: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nbp_core.checkpoint.save_file", save)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / "m", "tokenizer", model.config, build_tokenizer(1).state_dict())
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before

"""Compiled functions are kept on disk, and what cannot be read there is compiled anew."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from nbp_core.packed.kernels.kept import njit_kept


def fresh(folder: Path) -> Any:
    """The function as a new process meets it: compiled by nobody yet, perhaps kept on disk."""
    source = folder / "twice.py"
    if not source.exists():
        source.write_text("def twice(number):\n    return 2 * number\n")
    spec = importlib.util.spec_from_file_location("twice", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return njit_kept(module.twice)


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def test_what_was_compiled_is_kept(tmp_path: Path) -> None:
    assert fresh(tmp_path)(21) == 42
    again = fresh(tmp_path)
    assert again(21) == 42
    assert hits(again) == 1


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_file_that_cannot_be_read_is_compiled_anew(
    tmp_path: Path, ending: str, damage: str
) -> None:
    assert fresh(tmp_path)(21) == 42
    (kept,) = tmp_path.rglob(f"*.{ending}")
    whole = kept.read_bytes()
    harmed = {"empty": b"", "cut": whole[: len(whole) * 2 // 3], "other": b"\x00 no pickle"}
    kept.write_bytes(harmed[damage])
    mended = fresh(tmp_path)
    assert mended(21) == 42
    assert hits(mended) == 0
    again = fresh(tmp_path)
    assert again(21) == 42
    assert hits(again) == 1

"""Compiled functions are kept on disk, and what cannot be read there is compiled anew."""

from __future__ import annotations

import errno
import gc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numba.core.caching import IndexDataCacheFile

from nbp_core.packed.kernels.kept import njit_kept


@pytest.fixture(autouse=True)
def no_module_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that `fresh` leaves is taken out again after the test."""
    monkeypatch.setitem(sys.modules, "twice", ModuleType("twice"))


def fresh(folder: Path, factor: int = 2) -> Any:
    """The function as a new process meets it: compiled by nobody yet, perhaps kept on disk.

    Machine code names the module of its function, which must be one that can be imported. Whatever
    nobody holds is collected first: numba takes what is still in memory and reads no module then.
    """
    gc.collect()
    source = folder / "twice.py"
    if not source.exists() or f"{factor} *" not in source.read_text():
        source.write_text(f"def twice(number):\n    return {factor} * number\n")
    spec = importlib.util.spec_from_file_location("twice", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["twice"] = module
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


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_machine_code_of_an_earlier_version_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """The index of a new version may be written and its machine code not."""

    def stopped(*arguments: Any) -> None:
        raise fault

    assert fresh(tmp_path)(21) == 42
    with monkeypatch.context() as patch:
        patch.setattr(IndexDataCacheFile, "_save_data", stopped)
        changed = fresh(tmp_path, 1000)
        if isinstance(fault, OSError):
            assert changed(21) == 21_000
        else:
            with pytest.raises(KeyboardInterrupt):
                changed(21)
    after = fresh(tmp_path, 1000)
    assert after(21) == 21_000
    assert hits(after) == 0
    again = fresh(tmp_path, 1000)
    assert again(21) == 21_000
    assert hits(again) == 1

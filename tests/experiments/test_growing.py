"""A result file that grows holds what its readers take."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbp_core.results.files import read_result
from nbp_core.results.growing import Report, earlier, keep, remaining

HEAD = {"title": "t", "kind": "blocks", "device": "d", "weights": "w", "command": "c"}


def report() -> Report:
    return {**HEAD, "date": "2026-01-31", "done": "", "rows": []}


def test_a_figure_that_is_no_number_is_left_out_of_its_row(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    rows = [{"model": "m", "block": "1x1x1", "flicker": float("nan"), "psnr": float("inf")}]
    keep(out, report(), "1x1x1", [{**rows[0], "loss": 2.5}])
    assert read_result(out).rows == ({"model": "m", "block": "1x1x1", "loss": 2.5},)
    found = earlier(out, report())
    assert found is not None
    assert remaining(found, ["1x1x1", "1x1x16"]) == ["1x1x16"]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1, "a": 2}', "\udcff"])
def test_a_file_that_cannot_grow_stays_as_it_is(tmp_path: Path, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"^a\.json exists and is not JSON; move it away first$"):
        earlier(tmp_path / "a.json", report())
    assert (tmp_path / "a.json").read_bytes() == data


def test_two_processes_add_to_one_file(tmp_path: Path) -> None:
    out, one, other = tmp_path / "a.json", report(), report()
    rows = [{"model": "m", "block": block, "loss": 2.5} for block in ("1x1x1", "1x1x8", "1x1x16")]
    keep(out, one, "1x1x1", [rows[0]])
    keep(out, other, "1x1x8", [rows[1]])
    keep(out, one, "1x1x16", [rows[2]])
    keep(out, other, "1x1x16", [{**rows[2], "loss": 2.6}])
    assert read_result(out).rows == tuple(rows)
    assert other["done"] == "1x1x1; 1x1x8; 1x1x16"

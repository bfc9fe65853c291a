"""Names held for latent frames, as text and back."""

from __future__ import annotations

import pytest

from nbp_core.config.timeline import MOST_NAMES, format_timeline, parse_timeline


def test_a_timeline_comes_back_from_text() -> None:
    names = ("left", "left", "stay", "left+grip", "left+grip", "left+grip")
    assert format_timeline(names) == "left*2 stay left+grip*3"
    assert parse_timeline(format_timeline(names)) == names
    assert parse_timeline(" a\n*2".replace("\n*", "*")) == ("a", "a")


@pytest.mark.parametrize(
    "text", ["", " \n", "left*0", "left*-1", "left*", "*3", "left*2*2", "left*\u00b2"]
)
def test_a_wrong_timeline_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"left\*4"):
        parse_timeline(text)


def test_a_timeline_is_bounded() -> None:
    with pytest.raises(ValueError, match="100,000"):
        parse_timeline(f"a*{MOST_NAMES} b")

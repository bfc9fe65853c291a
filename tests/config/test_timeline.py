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
    ("text", "names"),
    [
        ("'open drawer'*2 close", ("open drawer", "open drawer", "close")),
        ("'5 * 5' \"don't stop\"*2", ("5 * 5", "don't stop", "don't stop")),
        ("it's don't*2", ("it's", "don't", "don't")),
        ("left+grip é/ü*002", ("left+grip", "é/ü", "é/ü")),
        ("""'* "a" '"'b'" """, ("* \"a\" 'b'",)),
    ],
)
def test_names_with_spaces_and_stars_are_quoted(text: str, names: tuple[str, ...]) -> None:
    assert parse_timeline(text) == names
    assert parse_timeline(format_timeline(names)) == names


def test_names_without_spaces_and_stars_are_written_plainly() -> None:
    assert format_timeline(["it's", "é/ü", "a b", "a b"]) == "it's é/ü 'a b'*2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "left*0",
        "left*-1",
        "left*",
        "*3",
        "left*2*2",
        "left*\u00b2",
        "'open drawer*4",
        "''*4",
        "'open drawer'close",
        f"left*{'9' * 5000}",
    ],
)
def test_a_wrong_timeline_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"left\*4"):
        parse_timeline(text)


def test_a_timeline_is_bounded() -> None:
    with pytest.raises(ValueError, match="100,000"):
        parse_timeline(f"a*{MOST_NAMES} b")

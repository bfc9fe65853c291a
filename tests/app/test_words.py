"""Words of the page: no text of it is one of those that readers stumbled over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import ui
from tests.support.engine import fake_session

APP = Path(ui.__file__).parent
RIDDLES = (
    "Tokens made in one step: larger is faster",
    "The frame being made appears here",
    "cut into blocks: ",
    "Presets fill the settings below",
    "How daring the choice of tokens is",
    "Its middle square is used",
    "the clip goes on from its own last five",
    "Roll the dice",
    "it says how it was made, and making it again",
    "Clips of this studio: choose one to open it",
    "with uploads 52.8 MB of at most",
    "Beyond that, and beyond 50 clips, the oldest go",
    "the engine is reading the start",
    "While others wait, a pause ends after a minute",
    "Step makes one more block, Resume goes on",
    "First runner",
    "Second runner",
    "of the second over the first",
    "Done: both clips are there",
    "Stopped before both had finished",
    "this page only asks how far they are",
    "choose an elastic model",
    "Adds the same clip read token by token",
    "prefix at a fifth",
    "one pixel a weight",
    "block walls",
    "Every head, a layer a line",
    "by the root of its share",
    "Blue frame: the token it makes",
    ") makes token (",
    "What the model is told while it reads the clip",
    "Read in blocks of",
    "opened as soon as the engine is free",
    "no transformer can give back",
    "says which tokenizer is asked",
    "What goes through the tokenizer and back",
    "Of a clip, the first 17 frames are",
    "as many as fit 1 + 4n",
    "bits of the clip",
    "plain 8-bit RGB",
    "places as before",
    "cuts the grid without rest",
    "Who may attend to whom",
    "A row is a position that asks",
    "only the beginning, enlarged",
    "What block size is worth",
    "the machine's floor",
    "times the floor",
    "What smaller weights cost",
    "loss before, nats a token",
    "loss then",
    "how well the tokenizer gives clips back",
    "Read the figures again",
    "How each figure is repeated",
    "stand in for nothing else",
    "read where it lies",
    "that lies on this machine",
    "what the weights have seen",
    "The whole card",
    "give it first frames to extend",
    "each continues from the last five frames",
    "W A S D turn the camera",
    "your turn ended. Press Play to continue",
    "The next frame comes between its steps.",
)
"""The old wordings of reviews of the page, each by a part that no better one holds; some were
riddles, some untrue."""
HABITS = re.compile(
    r"\bgoes? on\b|\bgoing on\b|\bthat there (is|are)\b|\b(is|are|was|were) (told|asked)\b"
    r"|\b(frames?|steps?|tokens?|nats|seconds?|keys?) an? (second|step|token|clip|key)\b"
    r"|\bno longer there\b|\bnot there\b|\bsomebody who\b"
)
"""Turns of phrase that a reader has to decode: continues, ready, reads, per."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything the page can say, by where it stands: its components as a browser gets them, the
    literals of its code, and its scripts and markup."""
    session, _ = fake_session(tmp_path_factory.mktemp("words") / "models")
    blocks = ui.build(session)
    try:
        found = {"page": "\n".join(_shown(blocks.get_config_file()))}
    finally:
        blocks.close()
        session.close()
    for path in sorted(APP.rglob("*.py")):
        found[str(path)] = "\n".join(_literals(ast.parse(path.read_text())))
    for path in sorted((APP.parent / "weights").glob("*/README.md")):
        found[str(path)] = re.sub(r"\s+", " ", path.read_text())
    for kind in ("js", "html", "css"):
        for path in sorted(APP.rglob(f"*.{kind}")):
            found[str(path)] = _joined(path.read_text())
    return found


def _shown(config: Any) -> Iterator[str]:
    """The texts of the page's components; its scripts and markup are read from their files."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key not in ("js", "css", "js_on_load", "html_template", "css_template"):
                yield from _shown(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _shown(value)
    elif isinstance(config, str):
        yield config


def _literals(tree: ast.Module) -> Iterator[str]:
    """The texts in code but its docstrings; what is filled in at run time stands as {}."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare
        ):
            yield node.value


def _joined(source: str) -> str:
    """A script without its comments, its sentences of several literals made one; spaces single."""
    source = re.sub(r"(^|\s)//\s.*$", "", source, flags=re.MULTILINE)
    return re.sub(r"\s+", " ", re.sub(r"['`]\s*\+\s*['`]", "", source))


def test_no_text_is_a_riddle(texts: dict[str, str]) -> None:
    found = [(where, words) for where, text in texts.items() for words in RIDDLES if words in text]
    assert found == []


def test_no_text_has_an_old_habit(texts: dict[str, str]) -> None:
    found = [
        (where, text[max(0, m.start() - 40) : m.end() + 20])
        for where, text in texts.items()
        if not where.endswith("README.md")
        for m in HABITS.finditer(text)
    ]
    assert found == []


def test_all_texts_are_read(texts: dict[str, str]) -> None:
    """A help text, a message of code, a sentence of two literals in a script, markup."""
    everything = "\n".join(texts.values())
    assert "Presets set the block and the sampling settings." in texts["page"]
    assert "Compiling the engine for this machine's processor" in everything
    assert "Queries run down, keys across; t is the latent frame" in everything
    assert "Brighter = more attention" in everything

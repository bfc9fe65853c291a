"""README's commands parse, its snippets run, and its two commands are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nbp_core.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"(<!-- runnable -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(bool(mark), language, text) for mark, language, text in FENCE.findall(README)]
COMMANDS = [
    line
    for _, language, text in BLOCKS
    if language == "bash"
    for line in text.replace("\\\n", " ").splitlines()
]
SNIPPETS = [text for runnable, language, text in BLOCKS if runnable and language == "python"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python -m nbp_core ")])
def test_a_command_of_the_engine_parses(command: str) -> None:
    words = shlex.split(command)[3:]
    assert callable(build_parser().parse_args(words).run)


@pytest.mark.timeout(300)  # a whole clip, perhaps on a busy machine
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_runnable_snippet_runs(snippet: str) -> None:
    folders = re.findall(r'"(weights/[\w-]+)"', snippet)
    absent = [folder for folder in folders if not (ROOT / folder).is_dir()]
    if absent:
        pytest.skip(f"there is no {absent[0]}")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    ["python3 .ci/bootstrap.py app.py", "python3 .ci/bootstrap.py --dev -m pytest"],
)
def test_the_two_commands_are_there(command: str) -> None:
    assert command in COMMANDS
    files = [word for word in shlex.split(command) if word.endswith(".py")]
    assert files
    assert all((ROOT / file).is_file() for file in files)

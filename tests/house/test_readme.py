"""The commands of README and docs parse, README's snippets run, every link leads to a file."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nbp_core.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
ENGINE = re.compile(r"^(?:python|accelerate launch .*) -m nbp_core ")
FENCE = re.compile(r"(<!-- runnable -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")


def fences(page: Path) -> list[tuple[bool, str, str]]:
    return [
        (bool(mark), language, text) for mark, language, text in FENCE.findall(page.read_text())
    ]


def commands(page: Path) -> list[str]:
    """The lines of a page's bash blocks, continued ones joined."""
    blocks = [text for _, language, text in fences(page) if language == "bash"]
    return [line for text in blocks for line in text.replace("\\\n", " ").splitlines()]


ENGINE_COMMANDS = [
    pytest.param(line, id=f"{page.name}-{index}")
    for page in PAGES
    for index, line in enumerate(commands(page))
    if ENGINE.match(line)
]
SNIPPETS = [text for run, language, text in fences(PAGES[0]) if run and language == "python"]


@pytest.mark.parametrize("command", ENGINE_COMMANDS)
def test_a_command_of_the_engine_parses(command: str) -> None:
    words = shlex.split(ENGINE.sub("", command))
    assert callable(build_parser().parse_args(words).run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_command_stands_outside_a_fence(page: Path) -> None:
    assert "\n    python -m nbp_core " not in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text()
    linked = [page.parent / name for name, _ in LINK.findall(text) if name]
    named = [ROOT / name for name in re.findall(r"\b(?:app|nbp_core|tests)/[\w/]+\.\w+", text)]
    assert [str(path) for path in linked + named if not path.exists()] == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]]
    assert [name for name in pages if name != "README.md" and f"({name})" not in index] == []


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
    ["python3 app.py", "python3 bootstrap.py --dev -m pytest"],
)
def test_the_two_commands_are_there(command: str) -> None:
    assert command in commands(PAGES[0])
    files = [word for word in shlex.split(command) if word.endswith(".py")]
    assert files
    assert all((ROOT / file).is_file() for file in files)

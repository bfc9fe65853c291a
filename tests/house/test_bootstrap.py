"""bootstrap.py: an environment from a fake package index, continued, refused in one sentence."""

from __future__ import annotations

import ast
import errno
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest

import bootstrap

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = """
[project]
dependencies = ["first>=1.0,<2"]
optional-dependencies = {{ studio = ["second==1.*"] }}
[dependency-groups]
dev = [{dev}]
"""
METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n"
APP = "import sys, first, second; print('studio', *sys.argv[1:], sys.prefix != sys.base_prefix)"


def add_wheel(index: Path, name: str, version: str, files: dict[str, str]) -> None:
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": METADATA.format(name, version),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')


def add_pip(index: Path) -> None:
    """The wheel of the pip that runs the tests, put together from its installed files."""
    pip = metadata.distribution("pip")
    files = {
        str(file): file.read_text()
        for file in pip.files or ()
        if file.suffix != ".pyc" and file.parts[0] == "pip" and file.suffix != ".exe"
    }
    add_wheel(index, "pip", pip.version, files)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    add_pip(folder)
    for name in ("first", "second"):
        add_wheel(folder, name, "1.2", {f"{name}.py": ""})
    return folder


def add_installed(folder: Path, name: str, version: str) -> None:
    """An empty package as an installation leaves it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA.format(name, version))
    (info / "RECORD").touch()
    (folder / f"{name}.py").touch()


def make_project(folder: Path, requirements: Sequence[str], dev: Iterable[str] = ()) -> Path:
    """A small project with this one's bootstrap.py and app.py."""
    for name in ("bootstrap.py", "app.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "main.py").write_text(
        "import argparse\n"
        "class build_parser:\n"
        "    def parse_args(self): pass\n"
        f"def main():\n    {APP}\n"
    )  # fmt: skip
    (folder / "requirements.txt").write_text("\n".join(requirements))
    named = ", ".join(f'"{name}"' for name in dev)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(dev=named))
    return folder


def start(
    project: Path, *words: str, index: Path | str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command line of Python without packages, whose package index is `index`."""
    url = index.as_uri() if isinstance(index, Path) else index
    usual = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_EXTRA_INDEX_URL": ""}
    python = getattr(sys, "_base_executable", sys.executable)
    return subprocess.run(
        [python, "-I", *words] if words[:1] == ("-c",) else [python, *words],
        cwd=project, env={**usual, **pip, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.timeout(300)
def test_app_py_sets_itself_up_once(index: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path, ["first==1.2", "second==1.2"])
    first = start(project, "app.py", "--port", "1", index=index)
    assert first.stdout == "studio --port 1 True\n", first.stderr
    assert "Step 1 of 2" in first.stderr
    assert "installing 3 packages" in first.stderr or "installing 2 packages" in first.stderr
    # the second start needs no index, and says nothing
    second = start(project, "app.py", index="http://127.0.0.1:9")
    assert (second.stdout, second.stderr) == ("studio True\n", "")
    # cut off while a package was copied: its record is missing, and it is installed again
    (record,) = project.glob(".venv/lib/*/site-packages/second-*/RECORD")
    (record.parents[1] / "second.py").unlink()
    record.unlink()
    third = start(project, "app.py", index=index)
    assert third.stdout == "studio True\n", third.stderr
    assert "Step 1" not in third.stderr
    # a pin that moved
    add_wheel(index, "second", "1.3", {"second.py": ""})
    (project / "requirements.txt").write_text("first==1.2\nsecond==1.3")
    fourth = start(project, "app.py", index=index)
    assert fourth.stdout == "studio True\n", fourth.stderr
    assert list(project.glob(".venv/lib/*/site-packages/second-1.3.dist-info"))


@pytest.mark.timeout(300)
def test_an_unfinished_environment_is_made_anew(index: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path, ["first==1.2"], dev=["second==1.3"])
    add_wheel(index, "second", "1.3", {"second.py": ""})
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").write_text("cut off")
    done = start(project, "bootstrap.py", "--dev", "-c", "import first, second", index=index)
    assert done.returncode == 0, done.stderr


def test_an_environment_with_the_packages_starts_at_once(index: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path, ["first==1.2", "second==1.2"])
    packages = tmp_path / "packages"
    for name in ("first", "second"):
        add_installed(packages, name, "1.9")
    done = start(project, "app.py", index="http://127.0.0.1:9", PYTHONPATH=str(packages))
    assert (done.stdout, done.stderr) == ("studio False\n", "")
    assert not (project / ".venv").exists()


@pytest.mark.timeout(300)
def test_packages_of_a_module_system_do_not_come_before_those_of_the_environment(
    index: Path, tmp_path: Path
) -> None:
    project = make_project(tmp_path, ["first==1.2", "second==1.2"])
    add_wheel(index, "second", "1.2", {"second.py": ""})
    modules = tmp_path / "modules"
    add_installed(modules, "first", "0.9")
    done = start(project, "app.py", index=index, PYTHONPATH=str(modules))
    assert done.stdout == "studio True\n", done.stderr
    again = start(project, "app.py", index="http://127.0.0.1:9", PYTHONPATH=str(modules))
    assert (again.stdout, again.stderr) == ("studio True\n", "")


@pytest.fixture
def rubbish() -> Iterator[str]:
    """The address of a server that speaks another protocol than HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    visitor, _ = server.accept()
                    with visitor:
                        visitor.recv(1000)
                        visitor.sendall(b"220 welcome\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


@pytest.mark.timeout(300)
def test_without_network_there_is_one_sentence(tmp_path: Path, rubbish: str) -> None:
    for number, url in enumerate(("http://127.0.0.1:9/simple", rubbish)):
        (tmp_path / str(number)).mkdir()
        project = make_project(tmp_path / str(number), ["first==1.2"])
        done = start(project, "app.py", index=url, PIP_RETRIES="0")
        assert done.returncode == 2
        first, *_, last = done.stderr.splitlines()
        assert first == f"The package index {url} does not answer; pip may know another way."
        assert last == (
            "Set-up failed: the package index does not answer; check the network, the next start"
            " continues."
        )
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "content", [b"index-url = x\n", b"[global\nindex", b"[global]\nx = \xff\n"]
)
def test_settings_of_pip_that_cannot_be_read_are_one_sentence(
    tmp_path: Path, content: bytes
) -> None:
    project = make_project(tmp_path, ["first==1.2"])
    file = tmp_path / "torn.conf"
    file.write_bytes(content)
    done = start(project, "app.py", index="", PIP_CONFIG_FILE=str(file), PYTHONUTF8="1")
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"Set-up failed: pip's settings in {file} cannot be read: ")
    assert not (project / ".venv").exists()


@pytest.mark.timeout(300)
def test_pip_decides_where_packages_come_from(index: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path, ["first==1.2", "second==1.2"])
    add_wheel(index, "second", "1.2", {"second.py": ""})
    file = tmp_path / "company.conf"
    file.write_text(f"[install]\nindex-url = {index.as_uri()}\n")
    # The proxy keeps the set-up's own question from the network.
    done = start(
        project, "app.py", index="", PIP_CONFIG_FILE=str(file),
        https_proxy="http://127.0.0.1:9", HOME=str(tmp_path),
    )  # fmt: skip
    assert done.stdout == "studio True\n", done.stderr


def test_no_index_is_the_usual_one_also_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "PIP_FILES", ("~/pip.conf",))
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 9)
    monkeypatch.setenv("PIP_INDEX_URL", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    assert bootstrap.package_indexes() == ["https://pypi.org/simple"]


def test_a_wheel_is_not_fetched_from_another_protocol(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rubbish: str
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", rubbish)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(bootstrap.SetupError, match="cannot be fetched"):
        bootstrap.fetch_pip(str(tmp_path))


@pytest.mark.parametrize(
    ("number", "waits"), [(errno.EAGAIN, True), (errno.EACCES, True), (errno.ENOLCK, False)]
)
def test_only_another_start_is_waited_for(
    number: int, waits: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waited: list[bool] = []

    def lock(file: int, *, wait: bool) -> None:
        waited.append(wait)
        if not wait:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "lock", lock)
    with bootstrap.only_one():
        assert waited == [False, True][: 1 + waits]


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("bootstrap.find_spec = lambda name: None", "no module venv; Debian's is in the package"),
        ("bootstrap.CPU_BYTES = bootstrap.CUDA_BYTES = 10**18", "GB are needed"),
        ("bootstrap.run = lambda *command: False", "cannot be made, see the message above"),
    ],
)
def test_what_a_machine_lacks_is_one_sentence(
    index: Path, tmp_path: Path, lacking: str, words: str
) -> None:
    project = make_project(tmp_path, ["first==1.2"])
    code = (
        f"import sys; sys.path.insert(0, {str(project)!r}); import bootstrap; {lacking};"
        " sys.exit(bootstrap.main(['-c', 'pass']))"
    )
    done = start(project, "-c", code, index=index)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Set-up failed: ")
    assert words in last
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(300)
def test_a_package_that_no_index_has(index: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path, ["absent==9"])
    done = start(project, "app.py", index=index)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "Set-up failed: pip could not install the packages, its message above says why."
    )


def test_a_python_that_is_too_old_is_told_so() -> None:
    code = (
        "import sys; sys.version_info = (3, 9, 1, 'final', 0);"
        f"exec(compile(open({str(ROOT / 'bootstrap.py')!r}).read(), 'bootstrap.py', 'exec'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("NBP Studio needs Python 3.11 or newer")
    assert done.stderr.endswith("this is Python 3.9.\n")


@pytest.mark.parametrize("file", ["app.py", "bootstrap.py"])
def test_files_that_meet_an_old_python_keep_to_its_syntax(file: str) -> None:
    ast.parse((ROOT / file).read_text(), feature_version=(3, 6))


def test_help_needs_no_packages() -> None:
    command = [sys.executable, "-S", "app.py", "--help"]  # -S leaves installed packages out
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: app.py ")


@pytest.mark.parametrize(
    ("version", "operator", "limit", "met"),
    [
        ("2.13.0+cpu", "==", "2.13.0", True),
        ("2.13.1", "==", "2.13.*", True),
        ("2.12.9", "==", "2.13.*", False),
        ("10.0", ">=", "9.1", True),
        ("6.31.0", "<", "7", True),
        ("7.0", "<", "7", False),
    ],
)
def test_versions_are_compared_by_number(
    version: str, operator: str, limit: str, met: bool
) -> None:
    assert bootstrap.is_within(version, operator, limit) is met


def test_the_cpu_build_of_torch_is_for_machines_without_nvidia(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands: list[tuple[str | Path, ...]] = []

    def run(*command: str | Path) -> bool:
        commands.append(command)
        return True

    monkeypatch.setattr(bootstrap, "run", run)
    monkeypatch.setattr(bootstrap, "environment_lacks", lambda packages: [])
    monkeypatch.setattr(bootstrap, "answers", lambda url: True)
    monkeypatch.setattr(bootstrap, "remove_unfinished", lambda: None)
    monkeypatch.setattr(sys, "platform", "linux")
    for has_nvidia in (False, True):
        monkeypatch.setattr(bootstrap, "has_nvidia", lambda found=has_nvidia: found)
        bootstrap.install(["torch==2.13.0"])
    assert [bootstrap.CPU_TORCH in command for command in commands] == [True, False]

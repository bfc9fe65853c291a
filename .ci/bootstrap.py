"""Sets up .venv beside this project and runs a Python command line in it; needs only python3.

python3 .ci/bootstrap.py app.py              the studio
python3 .ci/bootstrap.py --dev -m pytest     the tests, with the development tools installed

Later starts see by the stamps in .venv that nothing changed and go straight on. Debian's python3
brings neither pip nor ensurepip: then pip's wheel is fetched from the index pip is set up for.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PIP_WHEEL = "pip-26.2.1-py3-none-any.whl"
PIP_SHA256 = "71138adf1f4ca900cdb7d289c21b7494329f2332b6d85f0e1c42108c0384ed3e"


class SetupError(Exception):
    """What stands in the way, as one sentence for the person at the terminal."""


def package_indexes() -> list[str]:
    """The addresses pip would ask, from its environment variables and its configuration files."""
    config = configparser.RawConfigParser(strict=False)
    for file in ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf"):
        config.read(Path(file).expanduser())
    urls = ""
    for option, default in (("index-url", "https://pypi.org/simple"), ("extra-index-url", "")):
        variable = "PIP_" + option.upper().replace("-", "_")
        urls += " " + os.environ.get(variable, config.get("global", option, fallback=default))
    return [url.rstrip("/") for url in urls.split()]


def read_url(url: str) -> bytes:
    """The bytes behind a URL; the connection is not trusted, for a bare Debian has no certificates.

    The one file that is kept from it must have the SHA-256 written above.
    """
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(url, timeout=60, context=context) as response:
        return bytes(response.read())


def fetch_pip(folder: str) -> Path:
    """Downloads pip's wheel into the folder."""
    reason = "no index has it"
    for index in package_indexes():
        page = f"{index}/pip/index.html" if index.startswith("file:") else f"{index}/pip/"
        try:
            links = re.findall(r'href="([^"#]+)', read_url(page).decode())
            link = next((link for link in links if link.endswith(PIP_WHEEL)), None)
            wheel = read_url(urllib.parse.urljoin(page, link)) if link else b""
        except (OSError, ValueError) as error:
            reason = str(error)
            continue
        if hashlib.sha256(wheel).hexdigest() == PIP_SHA256:
            Path(folder, PIP_WHEEL).write_bytes(wheel)
            return Path(folder, PIP_WHEEL)
    raise SetupError(f"cannot fetch {PIP_WHEEL} from the package index: {reason}")


def run(*command: str | Path) -> bool:
    """Runs a command with its words on stderr, since stdout is for what is started afterwards."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def create_environment() -> None:
    """Makes .venv anew, with a pip that knows dependency groups."""
    venv = (getattr(sys, "_base_executable", sys.executable), "-m", "venv", "--clear", VENV)
    done = False
    if find_spec("ensurepip") and run(*venv):
        done = run(PYTHON, "-m", "pip", "install", "-q", "pip>=25.1")
    elif run(*venv, "--without-pip"):
        with tempfile.TemporaryDirectory() as folder:
            wheel = fetch_pip(folder)
            done = run(PYTHON, wheel / "pip", "install", "-q", "--no-index", wheel)
    if not done:
        raise SetupError(f"cannot make an environment with pip in {VENV}; see the message above")


def prepare(*, dev: bool) -> None:
    """Brings .venv up to date, unless its stamps say that it is."""
    import tomllib  # new in Python 3.11, so only after the version check

    requirements, pyproject = ROOT / "requirements.txt", ROOT / "pyproject.toml"
    groups = tomllib.loads(pyproject.read_text())["dependency-groups"]
    stamps = {"python": f"{sys.version} {VENV}", "packages": requirements.read_text()}
    wanted = ["-r", str(requirements)]
    if dev:
        stamps["dev"] = repr(groups["dev"])
        wanted += ["--group", f"{pyproject}:dev"]
    paths = {name: VENV / f"stamp-{name}" for name in stamps}
    stale = [n for n, path in paths.items() if not path.is_file() or path.read_text() != stamps[n]]
    if not stale:
        return
    print("Setting up .venv; the first time takes some minutes.", file=sys.stderr, flush=True)
    if "python" in stale:
        create_environment()
        paths["python"].write_text(stamps["python"])
    if not run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *wanted):
        raise SetupError("cannot install the packages; pip's own message above says why")
    for name, path in paths.items():
        path.write_text(stamps[name])


def main(arguments: list[str]) -> int:
    """Becomes Python on the arguments, or returns 2 after one sentence on what is wrong."""
    if sys.version_info < (3, 11):  # noqa: UP036 (what says so to an older one)
        print(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    dev = arguments[:1] == ["--dev"]
    try:
        prepare(dev=dev)
    except (SetupError, OSError) as error:
        print(f"Set-up failed: {error}.", file=sys.stderr)
        return 2
    os.execv(PYTHON, [str(PYTHON), *arguments[dev:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

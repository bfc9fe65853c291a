"""Makes the environment .venv beside this file, and runs Python in it. Needs nothing but Python.

python3 bootstrap.py app.py                  the studio; `python3 app.py` does the same by itself
python3 bootstrap.py --dev -m pytest         the tests, with the development tools installed

If .venv has every package, it is used at once; an interrupted installation is continued. If Python
lacks ensurepip, as Debian's does, pip's wheel is fetched from the package index.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older one gets this sentence)
    sys.exit(
        "NBP Studio needs Python 3.11 or newer, from https://www.python.org/downloads; this is"
        " Python {}.{}.".format(*sys.version_info)
    )

import configparser
import hashlib
import http.client
import re
import shutil
import ssl
import subprocess
import tempfile
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
NEWEST = (3, 14)
"""The newest Python that every pinned package is built for."""
CPU_TORCH = "https://download.pytorch.org/whl/cpu/torch/"
"""On Linux the package index has PyTorch with NVIDIA's libraries; this page has it without."""
CPU_BYTES, CUDA_BYTES = 3_500_000_000, 12_000_000_000
"""Free disk space that a new environment needs, downloads included."""
PIP = "pip>=25.1"  # the first with --group
PIP_WHEEL = "pip-26.2.1-py3-none-any.whl"
PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
PIP_SHA256 = "71138adf1f4ca900cdb7d289c21b7494329f2332b6d85f0e1c42108c0384ed3e"


class SetupError(Exception):
    """Why there is no environment, as one sentence."""


def start_app(arguments: Sequence[str]) -> None:
    """Returns at once where the packages are installed, else starts app.py in .venv instead."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if missing([*project["dependencies"], *project["optional-dependencies"]["studio"]]):
        sys.exit(main([str(ROOT / "app.py"), *arguments]))


def main(arguments: Sequence[str]) -> int:
    """Runs Python on the arguments in .venv; returns its exit code, or 2 after one sentence."""
    if arguments[:1] == ["--missing"]:
        sys.stdout.write("\n".join(missing(arguments[1:])))
        return 0
    for variable in ("PYTHONPATH", "PYTHONHOME"):  # they would put other packages before .venv's
        os.environ.pop(variable, None)
    dev = arguments[:1] == ["--dev"]
    try:
        prepare(wanted_packages(dev))
    except (SetupError, OSError) as error:
        say(f"Set-up failed: {error}".rstrip(".") + ".")
        return 2
    except KeyboardInterrupt:
        say("\nSet-up was interrupted; the next start continues it.")
        return 130
    return hand_over([str(PYTHON), *arguments[dev:]])


def wanted_packages(dev: bool) -> list[str]:
    """The pinned packages of the project, and with `dev` those of its development."""
    packages = [PIP, *(ROOT / "requirements.txt").read_text().split()]
    if dev:
        groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
        packages += groups["dev"]
    return packages


def missing(requirements: Iterable[str]) -> list[str]:
    """The requirements that this interpreter's packages do not meet."""
    return [requirement for requirement in requirements if not is_met(requirement)]


def is_met(requirement: str) -> bool:
    """Whether a requirement such as 'numpy>=2.2,<3' or 'torch==2.13.*' is installed.

    An installation that was interrupted has no RECORD yet.
    """
    name = re.split("[<=>]", requirement)[0]
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return package.read_text("RECORD") is not None and all(
        is_within(package.version, operator, limit)
        for operator, limit in re.findall(r"(==|>=|<)([\w.*]+)", requirement)
    )


def is_within(version: str, operator: str, limit: str) -> bool:
    """Whether a version meets one limit; what follows a '+' names a build and does not count."""
    have, wanted = (
        [int(number) for number in re.findall(r"\d+", text.partition("+")[0])]
        for text in (version, limit)
    )
    if operator == "==":
        return (have[: len(wanted)] if limit.endswith("*") else have) == wanted
    return have >= wanted if operator == ">=" else have < wanted


def prepare(packages: Sequence[str]) -> None:
    """Brings .venv up to date. Raises SetupError where that fails."""
    if environment_lacks(packages) == []:
        return
    with only_one():
        lacking = environment_lacks(packages)  # another start may have installed them meanwhile
        if lacking is None:
            check_machine()
            say("Step 1 of 2: making the environment .venv.")
            create_environment()
            lacking = list(packages)
        if lacking:
            say(f"Step 2 of 2: installing {len(lacking)} packages and what they need.")
            install(packages)


def environment_lacks(packages: Sequence[str]) -> list[str] | None:
    """The packages that .venv does not have, or None if it is no usable environment with pip."""
    command = [str(PYTHON), __file__, "--missing", "pip", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    lacking = done.stdout.split()
    return None if done.returncode or "pip" in lacking else lacking


@contextmanager
def only_one() -> Iterator[None]:
    """Waits until no other start works on .venv."""
    with (ROOT / ".venv.lock").open("a") as file:
        try:
            lock(file.fileno(), wait=False)
        except (BlockingIOError, PermissionError):
            say("Another start is making the environment; this one waits for it.")
            lock(file.fileno(), wait=True)
        except OSError:  # some network disks have no locks
            pass
        yield


def lock(file: int, *, wait: bool) -> None:
    """Locks a file until it is closed. Raises OSError where that fails.

    It is a BlockingIOError, or on Windows a PermissionError, where another process has it.
    """
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                return msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:  # LK_LOCK gives up after ten seconds
                if not wait:
                    raise
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def check_machine() -> None:
    """Raises SetupError where a new environment cannot succeed."""
    if find_spec("venv") is None:
        raise SetupError("this Python has no module venv; Debian's is in the package python3-venv")
    needed = CUDA_BYTES if has_nvidia() else CPU_BYTES
    free = shutil.disk_usage(ROOT).free
    if free < needed:
        raise SetupError(
            f"the disk has {free / 1e9:.1f} GB free in {ROOT}, and {needed / 1e9:.1f} GB are needed"
        )
    if not index_answers():
        say(f"The package index {package_indexes()[0]} does not answer; pip may know another way.")


def has_nvidia() -> bool:
    """Whether the driver of an NVIDIA GPU is installed."""
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").is_file()


def create_environment() -> None:
    """Makes .venv anew, with pip."""
    venv = (getattr(sys, "_base_executable", sys.executable), "-m", "venv", "--clear", VENV)
    done = False
    if find_spec("ensurepip"):
        done = run(*venv)
    elif run(*venv, "--without-pip"):
        with tempfile.TemporaryDirectory() as folder:
            wheel = fetch_pip(folder)
            done = run(PYTHON, wheel / "pip", "install", "-q", "--no-index", wheel)
    if not done:
        raise SetupError(f"{VENV} cannot be made, see the message above")


def install(packages: Sequence[str]) -> None:
    """Installs packages in .venv. Raises SetupError where pip fails."""
    remove_unfinished()
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--prefer-binary"]
    if sys.platform == "linux" and not has_nvidia() and answers(CPU_TORCH):
        pip += ["--find-links", CPU_TORCH]
    if not run(*pip, *packages) or environment_lacks(packages):
        raise SetupError(why_not_installed())


def remove_unfinished() -> None:
    """Removes the records of packages whose installation was cut off, so that pip repeats it."""
    for pattern in ("lib/python*/site-packages", "Lib/site-packages"):
        for record in VENV.glob(f"{pattern}/*.dist-info"):
            if not (record / "RECORD").is_file():
                shutil.rmtree(record)


def why_not_installed() -> str:
    """The likely reason why pip failed."""
    folders = {ROOT, Path(tempfile.gettempdir())}
    full = [folder for folder in folders if shutil.disk_usage(folder).free < 500_000_000]
    if full:
        return f"the disk that holds {full[0]} is full; free some space, the next start continues"
    if not index_answers():
        return "the package index does not answer; check the network, the next start continues"
    if sys.version_info[:2] > NEWEST:
        return f"the packages are made for Python 3.11 to 3.{NEWEST[1]}"
    return "pip could not install the packages, its message above says why"


def index_answers() -> bool:
    """Whether a package index answers; True where pip would not ask one, or by ways of its own."""
    if any(pip_option(name) for name in ("no-index", "proxy")):
        return True
    return any(answers(f"{url}/pip/") for url in package_indexes())


def answers(url: str) -> bool:
    """Whether a server answers at a URL, with whatever status, or a local file exists there."""
    address = urllib.parse.urlsplit(url)
    if address.scheme == "file":
        return Path(urllib.request.url2pathname(address.path)).exists()
    try:
        read_url(url, timeout_s=10)
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True


def package_indexes() -> list[str]:
    """The addresses that pip would ask, as far as they are easy to find."""
    urls = pip_option("index-url", "https://pypi.org/simple") + " " + pip_option("extra-index-url")
    return [url.rstrip("/") for url in urls.split()]


def pip_option(name: str, default: str = "") -> str:
    """An option of pip from its environment variables or its usual configuration files.

    An empty value counts as none.
    """
    config = configparser.RawConfigParser(strict=False)
    own = os.environ.get("PIP_CONFIG_FILE")
    for file in [own] if own else PIP_FILES:
        # Unlike a Path, this leaves `~` as it is where nobody has a home.
        path = os.path.expanduser(file)  # noqa: PTH111
        try:
            config.read(path)
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise SetupError(f"pip's settings in {path} cannot be read: {reason}") from error
    variable = "PIP_" + name.upper().replace("-", "_")
    return os.environ.get(variable) or config.get("global", name, fallback="") or default


def read_url(url: str, timeout_s: int = 60) -> bytes:
    """The bytes at a URL. The connection is not verified: a bare Debian has no certificates.

    The one file that is kept from it must have the SHA-256 written above.
    """
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(url, timeout=timeout_s, context=context) as response:
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
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = str(error)
            continue
        if hashlib.sha256(wheel).hexdigest() == PIP_SHA256:
            Path(folder, PIP_WHEEL).write_bytes(wheel)
            return Path(folder, PIP_WHEEL)
    raise SetupError(f"{PIP_WHEEL} cannot be fetched from the package index: {reason}")


def run(*command: str | Path) -> bool:
    """Runs a command with its output on stderr: stdout is for what is started afterwards."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def say(sentence: str) -> None:
    """Writes a line to stderr at once."""
    print(sentence, file=sys.stderr, flush=True)


def hand_over(command: list[str]) -> int:
    """Becomes the command; Windows, which has no such call, waits for it and gives its code."""
    if os.name == "posix":
        os.execv(command[0], command)
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the command has it as well, and ends by itself
                continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

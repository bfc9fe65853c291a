"""Jobs of the Models tab: convert a released file on this machine, fingerprint large weights.

Knows nothing of Gradio.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.jobs import Job
from app.session import Session

if TYPE_CHECKING:
    from nbp_core.models.catalogue import ModelEntry
    from nbp_core.models.released.networks import Released

Precision = Literal["keep", "float16", "bfloat16"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionRequest:
    """A file on this machine and the folder it is to become."""

    file: Path
    folder: Path
    precision: Precision


@dataclass(frozen=True, slots=True)
class Converted:
    """The new model's folder."""

    name: str


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """sha256 or a fault of each model, by (name, stamp)."""

    found: dict[tuple[str, tuple[int, int]], str]
    is_complete: bool


def conversion_request(
    session: Session, file: str, name: str, precision: Precision
) -> ConversionRequest:
    """The page's values, checked. Raises ValueError, one sentence."""
    if not session.is_local:
        raise ValueError("Converting is only offered when the studio is served to this machine.")
    path = _released_file(file.strip())
    if path is None:
        raise ValueError("Enter the path of a released file on this computer.")
    if not _NAME.fullmatch(name.strip()):
        raise ValueError("Enter a name of letters, digits, dots, - and _ for the new model.")
    folder = session.models / name.strip()
    if folder.exists():
        raise ValueError(f"There already is a model {folder.name!r}. Choose another name.")
    return ConversionRequest(file=path, folder=folder, precision=precision)


def _released_file(text: str) -> Path | None:
    """The file at a path; None where there is none, or none that this user can reach."""
    try:
        path = Path(text).expanduser()
        return path if text and path.is_file() else None
    except (OSError, RuntimeError):  # no such user as ~name, a closed folder, a name too long
        return None


def convert(request: ConversionRequest, job: Job) -> Converted:
    """Converts in the worker thread; nothing is left behind when it is stopped or fails."""
    from nbp_core.models.released import convert
    from nbp_core.models.released.convert import DTYPES

    def start(model: Released) -> Callable[[int], None]:
        done = 0

        def advance(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            job.report(_progress(f"Converting a {model.kind}", done, model.num_bytes))
            if not job.wait_turn():
                raise ValueError("Converting was stopped. Nothing was kept.")

        return advance

    with job.lending():
        convert.convert(
            request.file, request.folder, dtype=DTYPES[request.precision], on_start=start
        )
    return Converted(request.folder.name)


def _progress(what: str, done: int, total: int) -> tuple[float, str]:
    return done / max(total, 1), f"{what}: {megabytes(done)} of {megabytes(total)}."


def megabytes(num_bytes: int) -> str:
    """'8.2 MB', '16.1 GB'."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


class _StoppedError(Exception):
    """The job was stopped while it read."""


def fingerprint_all(session: Session, entries: list[ModelEntry], job: Job) -> Fingerprints:
    """Reads the weights of all models, and says which do not go with their tokenizer."""
    from nbp_core.models.catalogue import fingerprint

    found = {}
    total = sum(entry.num_bytes for entry in entries)
    done = 0

    def advance(entry: ModelEntry, num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        job.report(_progress(f"Reading {entry.name}", done, total))
        if not job.wait_turn():
            raise _StoppedError

    with job.lending(), suppress(_StoppedError):
        for entry in entries:
            after = done + entry.num_bytes
            advance(entry, 0)
            try:
                digest = fingerprint(session.models / entry.name, partial(advance, entry))
            except ValueError as error:
                digest = str(error)
            found[entry.name, entry.stamp] = digest
            done = after
    return Fingerprints(found, len(found) == len(entries))


def known_fingerprints(session: Session) -> dict[tuple[str, tuple[int, int]], str]:
    """All that earlier jobs found."""
    known: dict[tuple[str, tuple[int, int]], str] = {}
    for view in reversed(session.jobs.finished()):
        if isinstance(view.result, Fingerprints):
            known |= view.result.found
    return known

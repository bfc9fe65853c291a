"""The files of a model folder's weights and their fingerprint. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from safetensors import SafetensorError

from nbp_core.config.description import CheckpointError
from nbp_core.config.json import read_json, reason

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_PIECE_BYTES = 16 * 2**20


def weight_files(folder: Path) -> list[Path]:
    """The file of a model folder's weights, or all its shards.

    Raises CheckpointError for a missing file and for an index that names files elsewhere.
    """
    names = [WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        try:
            index = read_json(folder / INDEX_FILE)
            names = sorted({str(name) for name in index["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{INDEX_FILE} of model {folder.name!r} lists no files"
            ) from error
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{INDEX_FILE} of model {folder.name!r} names a file elsewhere")
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"model folder {folder.name!r} has no {name}")
    return [folder / name for name in names]


@contextmanager
def open_weights(path: Path) -> Iterator[BufferedReader]:
    """The file of weights, opened. Raises CheckpointError if it cannot be read or is corrupt."""
    model = path.parent.name
    try:
        # Opened here in any case: safetensors says of an unreadable file that there is none.
        with path.open("rb") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} of model {model!r} is corrupt") from error
    except OSError as error:
        why = f"cannot be read: {reason(error)}"
        raise CheckpointError(f"{path.name} of model {model!r} {why}") from error


def weights_sha256(folder: Path, on_progress: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a model folder's weights; for several shards, SHA-256 of their digests.

    on_progress receives the bytes of each piece once read.
    """
    digests = []
    for path in weight_files(folder):
        digest = hashlib.sha256()
        with open_weights(path) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                if on_progress is not None:
                    on_progress(len(piece))
        digests.append(digest)
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()

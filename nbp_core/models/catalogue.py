"""Describes every model in a folder without loading its weights.

Input: a folder of model folders. Output: one ModelEntry per model folder. A folder that cannot be
used has its fault in the entry, as a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nbp_core.blocks.steps import supported_shapes
from nbp_core.checkpoint import CARD_FILE, summarize
from nbp_core.config.description import load_config, read_description
from nbp_core.config.json import reason
from nbp_core.config.models import TokenizerConfig, TransformerConfig
from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE, Size3
from nbp_core.config.tokenizer_folder import tokenizer_folder
from nbp_core.config.weight_files import weight_files, weights_sha256
from nbp_core.media.files import printable_name
from nbp_core.models.pairing import find_tokenizer
from nbp_core.packed.formats import choose_format
from nbp_core.packed.model import decoding_bytes

MAX_CARD_BYTES = 200_000
_FLOAT32 = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A model's README.md. The text is untrusted."""

    licence: str
    """Empty if the card names none."""
    excerpt: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One model folder. If `fault` holds a sentence, all figures are zero."""

    name: str
    fault: str = ""
    kind: str = ""
    num_parameters: int = 0
    num_bytes: int = 0
    memory_bytes: int = 0
    """Memory to generate one clip: weights, KV cache and the tokenizer's weights."""
    grid: Size3 | None = None
    block_shapes: tuple[Size3, ...] = ()
    codebook_size: int = 0
    actions: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """A player's keys, beside those actions that are camera moves."""
    tokenizer: str = ""
    """Name of the tokenizer's folder, for a transformer."""
    stamp: tuple[int, int] = (0, 0)
    """Size in bytes and modification time of the weights; it changes when they change."""
    card: Card = Card(licence="", excerpt="", text="")


def catalogue(folder: Path, device: str) -> list[ModelEntry]:
    """The models in a folder, by name. Memory is estimated for `device`, cpu or cuda."""
    return list(_entries(folder, device)) if folder.is_dir() else []


def _entries(folder: Path, device: str) -> Iterator[ModelEntry]:
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if not path.name.isprintable():
            fault = "The name of this folder has characters that cannot be shown. Rename it."
            yield ModelEntry(name=printable_name(path), fault=fault)
            continue
        try:
            yield _entry(path, device)
        except ValueError as error:
            yield ModelEntry(name=path.name, fault=_sentence(error), card=read_card(path))
        except OSError as error:
            yield ModelEntry(name=path.name, fault=f"This folder cannot be read: {reason(error)}.")


def _sentence(error: ValueError) -> str:
    """With a capital, unless it begins with the name of a file, and a full stop."""
    text = str(error).rstrip(".")
    is_file = "." in text.partition(" ")[0]
    return f"{text if is_file else text[0].upper() + text[1:]}."


def _entry(path: Path, device: str) -> ModelEntry:
    found = summarize(path)
    files = [file.stat() for file in weight_files(path)]
    entry = ModelEntry(
        name=path.name,
        kind=found.kind,
        num_parameters=found.num_parameters,
        num_bytes=found.num_bytes,
        memory_bytes=_FLOAT32 * found.num_parameters,
        stamp=(found.num_bytes, max(file.st_mtime_ns for file in files)),
        card=read_card(path),
    )
    if found.kind == "tokenizer":
        config = load_config(path, TokenizerConfig)
        grid = config.grid(CLIP_FRAMES, CLIP_SIDE, CLIP_SIDE)
        return replace(entry, grid=grid, codebook_size=config.codebook_size)
    transformer = load_config(path, TransformerConfig)
    tokenizer = tokenizer_folder(path)
    memory = decoding_bytes(transformer, choose_format(device))
    if tokenizer is not None:
        memory += _FLOAT32 * summarize(tokenizer).num_parameters
    return replace(
        entry,
        memory_bytes=memory,
        grid=transformer.grid,
        block_shapes=supported_shapes(transformer),
        codebook_size=transformer.codebook_size,
        actions=transformer.actions,
        keys=transformer.keys,
        tokenizer="Cosmos" if tokenizer is None else tokenizer.name,
    )


def fingerprint(folder: Path, on_progress: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a model's weights. on_progress receives the bytes of each piece once read.

    Raises CheckpointError if the model's tokenizer is missing or is another one.
    """
    if read_description(folder)["kind"] == "transformer" and tokenizer_folder(folder) is not None:
        find_tokenizer(folder)
    return weights_sha256(folder, on_progress)


def read_card(folder: Path) -> Card:
    """Reads README.md of a model folder; an empty card if there is none."""
    try:
        with (folder / CARD_FILE).open("rb") as file:
            text = file.read(MAX_CARD_BYTES).decode(errors="replace")
    except OSError:
        return Card(licence="", excerpt="", text="")
    front, body = _split_front(text)
    named = re.search(r"^licen[cs]e:\s*(.+)$", front, re.MULTILINE | re.IGNORECASE)
    section = re.search(r"^#+\s*licen[cs]e\s*\n+(.+?)(\n\s*\n|\Z)", body, re.M | re.S | re.I)
    licence = named[1].strip() if named else _one_line(section[1]) if section else ""
    paragraphs = [part for part in re.split(r"\n\s*\n", body) if not part.lstrip().startswith("#")]
    excerpt = _one_line(paragraphs[0]) if paragraphs else ""
    return Card(licence=licence.replace("`", ""), excerpt=excerpt, text=body.strip())


def _split_front(text: str) -> tuple[str, str]:
    """(the front matter between two lines of ---, the rest)."""
    found = re.match(r"---\s*\n(.*?)\n---\s*\n", text, re.DOTALL)
    return (found[1], text[found.end() :]) if found else ("", text)


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""The list of models on the Models tab, as HTML. Everything a folder says is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from app.jobs import JobView
from app.models.card import card_html, line_html, preview_html
from app.models.jobs import Converted, Fingerprints, known_fingerprints, megabytes
from app.parts.status import bar, line, standing
from app.session import SPEED_ONLY, Session
from nbp_core.config.shapes import format_block_shape
from nbp_core.data.keys import GRIP_SUFFIX

if TYPE_CHECKING:
    from nbp_core.models.catalogue import ModelEntry


READING = "<p>Reading the folders of the models.</p>"
"""Shown until a page is opened: reading the models imports torch, which takes a second."""


def model_list(session: Session) -> str:
    """Every folder of the session's models and the untrained sizes, as HTML."""
    entries = read_catalogue(session)
    known = known_fingerprints(session)
    if not entries:
        text = f"<p>The folder {escape(session.models.name)} holds no model yet.</p>"
    else:
        text = "".join(
            _article(entry, session.models, known.get((entry.name, entry.stamp)))
            for entry in entries
        )
    return text + _untrained(session)


def read_catalogue(session: Session) -> list[ModelEntry]:
    """Every folder of the session's models."""
    # Imported when first needed: it brings torch along.
    from nbp_core.device import choose_device
    from nbp_core.models.catalogue import catalogue

    return catalogue(session.models, choose_device(session.device))


def _article(entry: ModelEntry, models: Path, fingerprint: str | None) -> str:
    head = f"<h2>{escape(entry.name)}</h2>"
    if entry.fault:
        return f'<article>{head}<p class="fault">{escape(entry.fault)}</p></article>'
    facts = _facts(entry, fingerprint)
    rows = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    card, folder = entry.card, models / entry.name
    excerpt = (
        f"<p>{line_html(card.excerpt)}</p>"
        if card.excerpt
        else "<p>This model has no model card.</p>"
    )
    whole = (
        f'<details data-model="{escape(entry.name)}"><summary>Full model card</summary>'
        f"{card_html(card.text, folder)}</details>"
        if card.text
        else ""
    )
    preview = preview_html(card.text, folder)
    return f"<article>{head}{excerpt}{preview}<dl>{rows}</dl>{whole}</article>"


def _facts(entry: ModelEntry, fingerprint: str | None) -> dict[str, str]:
    grid = " x ".join(map(str, entry.grid or ()))
    facts = {
        "kind": entry.kind,
        "parameters": f"{entry.num_parameters:,}",
        "size on disk": megabytes(entry.num_bytes),
        "memory needed": f"{megabytes(entry.memory_bytes)}, computed from the architecture",
        "clip": f"17 frames of 128 x 128 px are {grid} tokens of {entry.codebook_size:,} codes",
    }
    if entry.kind == "transformer":
        facts["clip"] = f"{grid} tokens of {entry.codebook_size:,} codes"
        facts["blocks"] = ", ".join(map(format_block_shape, entry.block_shapes))
        facts["actions"] = f"{len(entry.actions)} named" if entry.actions else "none"
        facts["keys"] = _key_words(entry.keys)
        facts["tokenizer"] = entry.tokenizer
    facts["licence"] = entry.card.licence or "see the model card"
    facts["weights"] = _fingerprint_words(fingerprint)
    return facts


def _key_words(keys: tuple[str, ...]) -> str:
    """The keys that a player may hold; those of the arm's grip stand with their direction."""
    gripped = [key for key in keys if key + GRIP_SUFFIX in keys]
    rest = [key for key in keys if key not in gripped and not key.endswith(GRIP_SUFFIX)]
    grip = f"{', '.join(gripped)}, each with an open and a closed grip" if gripped else ""
    return "; ".join(part for part in (grip, ", ".join(rest)) if part) or "none"


def _fingerprint_words(fingerprint: str | None) -> str:
    if fingerprint is None:
        return "fingerprint not computed yet"
    is_digest = len(fingerprint) == 64 and fingerprint.isalnum()
    return f"fingerprint {fingerprint[:8]} (sha256)" if is_digest else fingerprint


def _untrained(session: Session) -> str:
    """The paper's sizes with random weights: what they are and whether they fit here."""
    from nbp_core.config.presets import PAPER_PRESETS
    from nbp_core.device import choose_device, free_bytes
    from nbp_core.models.speed_only import preset_parameters
    from nbp_core.packed.formats import choose_format
    from nbp_core.packed.model import decoding_bytes

    offered = session.speed_only_names()
    if not offered:
        return ""
    device = choose_device(session.device)
    free, weights = free_bytes(device), choose_format(device)
    rows = []
    for name in offered:
        preset = SPEED_ONLY[name]
        count = preset_parameters(preset)
        need = decoding_bytes(PAPER_PRESETS[preset], weights)
        fits = "fits" if need < free else "does not fit"
        rows.append(
            f"<dt>{escape(name)}</dt><dd>{count / 1e6:,.0f} million parameters in the paper's"
            f" layout. Generating needs {megabytes(need)} of memory; {megabytes(free)} are free"
            f" here: {fits}.</dd>"
        )
    return (
        "<article><h2>The paper's sizes, untrained</h2><p>Untrained models at the paper's sizes,"
        " for timing only. Their output is noise. A step takes as long as it would with trained"
        f" weights.</p><dl>{''.join(rows)}</dl></article>"
    )


def status(view: JobView | None) -> str:
    """One line on the running job, with a bar, as HTML."""
    share, text, kind = standing(view, _done, loading="Starting...")
    return line(text, kind) + (bar("Progress", share) if 0 < share < 1 else "")


def _done(result: Converted | Fingerprints) -> str:
    if isinstance(result, Converted):
        return f"Done. {result.name} is in the list of models."
    if result.is_complete:
        return "Done. The fingerprints are in the list."
    if not result.found:
        return "Stopped before the first fingerprint was computed."
    return "Stopped: the fingerprints computed so far are in the list."

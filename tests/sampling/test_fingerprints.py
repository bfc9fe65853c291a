"""The same seed gives the same tokens as before: fingerprints recorded once a kind of processor.

Where none were recorded for this kind the test is skipped: rounding differs between processors.
`python -m tests.sampling.test_fingerprints` records those of this one.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.packed.formats import WeightFormat, formats_on
from nbp_core.packed.model import pack
from nbp_core.runtime import runtime
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import CODES, DECODINGS, decode_tokens, transformer_config

RECORDED = Path(__file__).parent / "fingerprints.json"
SAMPLINGS = {
    "usual": SamplingConfig(top_k=30, top_p=0.9, seed=7),
    "hot": SamplingConfig(top_k=16_000, top_p=0.99, temperature=1.3, seed=2**40),
    "greedy": SamplingConfig(temperature=0),
    "shared-noise": SamplingConfig(method="shared-noise", top_p=0.8, seed=1),
}


def processor() -> str:
    """What decides how numbers are rounded: maker, family, model and instructions used."""
    kind = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = [line.split(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        found = {line[0].strip(): line[1].strip() for line in reversed(lines) if len(line) == 2}
        kind = " ".join(found.get(key, "") for key in ("vendor_id", "cpu family", "model"))
    in_use = runtime().instructions
    return f"{kind} {torch.backends.cpu.get_cpu_capability()} {in_use.name if in_use else 'none'}"


def model_of(kind: LayoutKind, shape: Size3) -> BlockTransformer:
    """A model whose weights depend on their names and shapes alone, not on how it is built."""
    config = transformer_config(kind, shape, modern=kind == "elastic")
    model = BlockTransformer(replace(config, width=128, num_heads=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.1)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval().requires_grad_(False)


def cases() -> Iterator[tuple[LayoutKind, Size3, int, WeightFormat | None]]:
    """Layout, block shape, known tokens, and the usual format of weights or None for unpacked."""
    for kind, shape, known in DECODINGS:
        for weights in (None, formats_on("cpu")[0]):
            yield kind, shape, known, weights


def fingerprints(
    kind: LayoutKind, shape: Size3, known: int, weights: WeightFormat | None
) -> dict[str, str]:
    """Of the tokens of two clips, for each way of sampling, with guidance too."""
    model = model_of(kind, shape)
    if weights is not None:
        model = pack(model, weights)
    tokens = torch.arange(2 * 768).view(2, 3, 16, 16) * 7 % CODES
    found = {}
    for name, sampling in SAMPLINGS.items():
        for guidance in (1.0,) if kind == "plain" else (1.0, 1.7):
            guided = replace(sampling, guidance_scale=guidance)
            made = decode_tokens(model, shape, guided, known, tokens)
            digest = hashlib.sha256(made.numpy().tobytes()).hexdigest()[:16]
            found[f"{name}, guidance {guidance:g}"] = digest
    return found


def name_of(kind: LayoutKind, shape: Size3, known: int, weights: WeightFormat | None) -> str:
    return f"{kind} {'x'.join(map(str, shape))} after {known}, {weights or 'unpacked'}"


@pytest.mark.parametrize(("kind", "shape", "known", "weights"), list(cases()))
def test_the_same_seed_gives_the_tokens_it_gave_before(
    kind: LayoutKind, shape: Size3, known: int, weights: WeightFormat | None
) -> None:
    recorded = json.loads(RECORDED.read_text()).get(processor())
    if recorded is None:
        pytest.skip(f"nothing was recorded on {processor()}")
    expected = recorded.get(name_of(kind, shape, known, weights))
    if expected is None:
        pytest.skip(f"nothing was recorded for {weights}")
    assert fingerprints(kind, shape, known, weights) == expected


def record() -> None:
    """Adds the fingerprints of this processor to the file."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    recorded[processor()] = {name_of(*case): fingerprints(*case) for case in cases()}
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    record()

"""The verb `doctor`: lists packages and models, and tests and times each model."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbp_core.bench.floor import time_steps
from nbp_core.bench.gains import Gain, measure_gains
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.checkpoint import describe_models, model_kind, summarize, without_weights
from nbp_core.config.description import load_config
from nbp_core.config.models import TokenizerConfig, TransformerConfig
from nbp_core.config.shapes import CLIP_SIDE
from nbp_core.device import check_memory, choose_device, device_name
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.video import CONTEXT_FRAMES, write_video
from nbp_core.models.catalogue import fingerprint
from nbp_core.packed.formats import choose_format
from nbp_core.packed.model import decoding_bytes, load_packed
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.transformer.model import num_parameters

PACKAGES = ("torch", "gradio", "numpy", "opencv-python-headless", "imageio-ffmpeg", "safetensors")
TIMED_STEPS = 8


@dataclass
class ModelTest:
    """The test of one model. Seconds are for loading, the first step and a later step."""

    name: str
    kind: str
    parameters: int
    expected_parameters: int
    memory_bytes: int
    sha256: str
    load_s: float = 0.0
    prefill_s: float = 0.0
    step_s: float = 0.0
    clip: str | None = None
    note: str | None = None
    """Why a requested clip was not made."""

    def text(self) -> str:
        what = "one frame to tokens" if self.kind == "tokenizer" else "first step"
        then = "back to pixels" if self.kind == "tokenizer" else "then a row"
        lines = [
            f"{self.name}: {self.kind}, works",
            f"  parameters {self.parameters:,} (expected {self.expected_parameters:,}), "
            f"memory {self.memory_bytes / 1e9:.2f} GB, weights {self.sha256[:16]}",
            f"  loads in {self.load_s:.2f} s, {what} {self.prefill_s * 1e3:.0f} ms, "
            f"{then} {self.step_s * 1e3:.1f} ms (median of {TIMED_STEPS})",
        ]
        lines += [f"  clip: {self.clip}"] if self.clip else []
        return "\n".join(lines + ([f"  no clip: {self.note}"] if self.note else []))


@dataclass
class Report:
    """The result of `examine`. `faults` has one sentence per model that cannot be used."""

    python: str
    packages: dict[str, str]
    device: str
    threads: int
    gains: list[Gain] = field(default_factory=list)
    """Speed of int8 and int4 weights on this processor, relative to the default format."""
    tests: list[ModelTest] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        lines = [f"python {self.python}, {self.device}, threads: {self.threads}"]
        lines += [f"  {name} {version}" for name, version in self.packages.items()]
        lines += [gain.text() for gain in self.gains]
        return "\n".join([*lines, *(test.text() for test in self.tests), *self.faults])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def examine(folder: Path, device: str, clip: Path | None = None) -> Report:
    """Examines the machine and one model folder, or every model in a folder of models.

    A transformer whose tokenizer is available also writes a clip to the file `clip`.
    """
    chosen = choose_device(device)
    packages = {name: _version(name) for name in PACKAGES}
    report = Report(
        platform.python_version(), packages, device_name(chosen), torch.get_num_threads()
    )
    paths, report.faults = _model_folders(folder)
    if chosen == "cpu":
        report.gains = measure_gains()
    for path in paths:
        try:
            report.tests.append(_test(path, chosen, clip))
        except ValueError as error:
            report.faults.append(str(error))
    return report


def _model_folders(folder: Path) -> tuple[list[Path], list[str]]:
    """(the one model, or all models in a folder of models; a sentence for each unusable one)."""
    if model_kind(folder) is not None:
        return [folder], []
    models, faults = describe_models(folder)
    return [folder / model.name for model in models], faults


def _test(folder: Path, device: str, clip: Path | None) -> ModelTest:
    if model_kind(folder) == "tokenizer":
        return _test_tokenizer(folder, device)
    test = _test_transformer(folder, device)
    if clip is not None:
        try:
            _make_clip(folder, device, clip)
            test.clip = str(clip)
        except ValueError as error:
            test.note = str(error)
    return test


def _described(folder: Path, expected: int, num_bytes: int, device: str) -> ModelTest:
    check_memory(f"model {folder.name!r}", num_bytes, device)
    found = summarize(folder)
    return ModelTest(
        folder.name, found.kind, found.num_parameters, expected, num_bytes, fingerprint(folder)
    )


def _test_tokenizer(folder: Path, device: str) -> ModelTest:
    """Encodes one frame to tokens and decodes it."""
    config = load_config(folder, TokenizerConfig)
    with without_weights():
        expected = sum(p.numel() for p in VideoTokenizer(config).parameters())
    test = _described(folder, expected, 4 * expected, device)
    began = time.perf_counter()
    model = VideoTokenizer.from_pretrained(folder, device=device)
    test.load_s = time.perf_counter() - began
    picture = torch.rand(1, 3, 1, CLIP_SIDE, CLIP_SIDE, device=device)
    began = time.perf_counter()
    tokens = model.encode(picture)
    test.prefill_s = time.perf_counter() - began
    began = time.perf_counter()
    model.decode(tokens).cpu()
    test.step_s = time.perf_counter() - began
    return test


def _test_transformer(folder: Path, device: str) -> ModelTest:
    """Runs a few decode steps after one latent frame of arbitrary tokens."""
    config = load_config(folder, TransformerConfig)
    expected = num_parameters(config)
    layout = sequence_layout(config)
    num_bytes = decoding_bytes(config, choose_format(device))
    test = _described(folder, expected, num_bytes, device)
    began = time.perf_counter()
    model = load_packed(folder, device)
    test.load_s = time.perf_counter() - began
    seconds = time_steps(model, layout, math.prod(config.grid[1:]), 1 + TIMED_STEPS)
    test.prefill_s, later = seconds[0], sorted(seconds[1:])
    test.step_s = later[len(later) // 2]
    return test


def _make_clip(folder: Path, device: str, out: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(folder, device=device)
    if pipeline.actions:
        result = pipeline.generate(pipeline.actions[0])
    else:
        ramp = np.linspace(0, 255, CLIP_SIDE).astype(np.uint8)
        frame = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), axis=-1)
        shifted = [np.roll(frame, 3 * i, axis=1) for i in range(CONTEXT_FRAMES)]
        result = pipeline.generate(frames_THWC=np.stack(shifted))
    write_video(out, result.frames_THWC, scale=4)

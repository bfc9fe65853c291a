"""What is installed, which weights there are, and whether each model works here, with timings."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from nbp_core.checkpoint import describe_models
from nbp_core.config import SamplingConfig
from nbp_core.pipeline import VideoPipeline

PACKAGES = ("torch", "gradio", "numpy", "opencv-python-headless", "imageio-ffmpeg", "safetensors")
TIMED_STEPS = 8


@dataclass(frozen=True)
class ModelTest:
    """A short generation with one model: seconds to load, of the first step, of a later one."""

    name: str
    load_s: float
    prefill_s: float
    step_s: float


@dataclass
class Report:
    """What `examine` found. `faults` holds a sentence for each model that cannot be used."""

    python: str
    packages: dict[str, str]
    device: str
    threads: int
    tests: list[ModelTest] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        lines = [f"python {self.python}, {self.device}, {self.threads} threads"]
        lines += [f"  {name} {version}" for name, version in self.packages.items()]
        lines += [
            f"{test.name}: works; loads in {test.load_s:.2f} s, "
            f"first step {test.prefill_s * 1e3:.0f} ms, then {test.step_s * 1e3:.1f} ms a step "
            f"(median of {TIMED_STEPS})"
            for test in self.tests
        ]
        return "\n".join(lines + self.faults)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _device_words(device: str) -> str:
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def examine(folder: Path, device: str) -> Report:
    """Examines the machine and every transformer in a folder of models."""
    packages = {name: _version(name) for name in PACKAGES}
    report = Report(
        platform.python_version(), packages, _device_words(device), torch.get_num_threads()
    )
    for model in describe_models(folder):
        if model.kind == "transformer":
            try:
                report.tests.append(_test(folder / model.name, device))
            except ValueError as error:
                report.faults.append(str(error))
    return report


def _test(folder: Path, device: str) -> ModelTest:
    began = time.perf_counter()
    pipeline = VideoPipeline.from_pretrained(folder, device=device)
    load_s = time.perf_counter() - began
    action = pipeline.actions[0] if pipeline.actions else None
    run = pipeline.stream(action, sampling=SamplingConfig(seed=0))
    seconds = [step.step_s for step, _ in zip(run, range(1 + TIMED_STEPS), strict=False)]
    return ModelTest(folder.name, load_s, seconds[0], sorted(seconds[1:])[TIMED_STEPS // 2])

"""All settings of a training run in one file: model, recipe, optimiser and budget.

A config file is JSON; settings that it leaves out have the defaults defined here. Every run writes
all of its settings to run.json, from which it can be repeated. Folders of clips and photographs are
not among them, since they differ between machines.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from nbp_core.config.json import MOST, JsonConfig, check_range, check_text, read_json
from nbp_core.config.models import TokenizerConfig, TransformerConfig
from nbp_core.config.presets import ELASTIC_SIZES, HEAD_WIDTH, TOKENIZER_PRESETS
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.data.sources import folder_fingerprint
from nbp_core.media.files import write_text
from nbp_core.train.loop.checkpoint import CHECKPOINT_FILE
from nbp_core.train.loop.trainer import MODEL_FOLDER, TrainConfig
from nbp_core.train.tokenizer import TokenizerRecipe, check_crops
from nbp_core.train.transformer.recipe import SOURCES, TransformerRecipe, check_names

RUN_FILE = "run.json"
SOURCES_FILE = "sources.json"
"""Fingerprints of the folders of data that a run is trained on."""
BUDGETS = ("minutes", "steps", "tflop")
MAY_CHANGE = (*BUDGETS, "accumulate", "validate_minutes", "validate_steps", "checkpoint_minutes")
"""Settings of `train` that may change when a run resumes, since no step depends on them."""
PROMPT_LEN, PROMPT_VOCABULARY = 8, 32_000
"""Class prompts of the paper's UCF-101 models."""

_TOKENIZER_TRAIN = TrainConfig(minutes=25, lr=1e-3, muon_lr=3e-3, batch_size=10)
_TRANSFORMER_TRAIN = TrainConfig(minutes=25, lr=2e-3, muon_lr=2e-3, batch_size=4)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRun(JsonConfig):
    """The settings of a tokenizer's training run."""

    model: TokenizerConfig = TOKENIZER_PRESETS["nano"]
    recipe: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    train: TrainConfig = _TOKENIZER_TRAIN
    photo_clips: int = 1_000
    """Number of camera moves over photographs, besides the clips."""
    start_from: str | None = None
    """Model folder with the first weights; None starts from random weights."""

    def __post_init__(self) -> None:
        check_range(self, 0, MOST, "photo_clips")
        check_crops(self.model, self.recipe)
        if self.train.tflop is not None:
            raise ValueError("a tokenizer's budget is in minutes or in steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerSizes(JsonConfig):
    """The part of a TransformerConfig that a run decides; tokenizer and clips decide the rest."""

    name: str = "tiny"
    num_layers: int = 4
    width: int = 192
    num_heads: int = 3
    layout: LayoutKind = "elastic"
    block_shape: Size3 = (1, 1, 16)
    """The only block shape of a plain or hybrid model, the default one of an elastic model."""
    grid: Size3 = (5, 16, 16)
    conditions: Literal["actions", "prompts", "none"] = "actions"
    """One token per action, the paper's eight tokens of a UCF-101 class prompt, or none."""
    max_len: int = 5120
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    rope: bool = True
    rms_norm: bool = True
    swiglu: bool = True
    aimed: bool = True
    tied_head: bool = False
    frame_conditions: bool = False
    """Whether each latent frame has a condition of its own, as models with keys need."""
    window: int | None = None
    """Number of latent frames before the predicted one that are seen, besides the first; None: all
    of the grid."""

    def __post_init__(self) -> None:
        check_text(self, "name")

    def sized(self, size: str) -> TransformerSizes:
        """The same with the name, the layers and the width of one of our own sizes."""
        layers, width = ELASTIC_SIZES[size]
        heads = width // HEAD_WIDTH
        return replace(self, name=size, num_layers=layers, width=width, num_heads=heads)

    def config(
        self, codebook_size: int, actions: tuple[str, ...], keys: tuple[str, ...] = ()
    ) -> TransformerConfig:
        """The model for tokens of a codebook, clips of these actions and clips that answer to keys.

        Raises ValueError for keys without conditions per latent frame.
        """
        if keys and not (self.frame_conditions and self.conditions == "actions"):
            raise ValueError("clips that answer to keys need a model with frame_conditions")
        settings = self.to_dict()
        conditions: dict[str, dict[str, Any]] = {
            "none": {},
            "actions": {
                "num_conditions": len(actions) + len(keys) + 1,
                "prefix_len": 1,
                "actions": actions,
                "keys": keys,
            },
            "prompts": {"num_conditions": PROMPT_VOCABULARY, "prefix_len": PROMPT_LEN},
        }
        chosen = conditions[settings.pop("conditions")]
        return TransformerConfig(codebook_size=codebook_size, **settings, **chosen)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerRun(JsonConfig):
    """The settings of a transformer's training run."""

    model: TransformerSizes = field(default_factory=TransformerSizes)
    recipe: TransformerRecipe = field(default_factory=TransformerRecipe)
    train: TrainConfig = _TRANSFORMER_TRAIN
    photo_clips: int = 400
    key_clips: int = 1_200
    """Number of clips with camera keys over photographs; half as many are made in panoramas. Only
    for models with frame_conditions."""
    clips_of_an_action: int | None = None
    """Largest number of clips per action to encode; None encodes all."""
    start_from: str | None = None
    """Model folder with the first weights; a smaller model is grown. None: random weights."""

    def __post_init__(self) -> None:
        check_range(self, 0, MOST, "photo_clips", "key_clips")
        check_range(self, 1, MOST, "clips_of_an_action")
        check_names("source_shares", self.recipe.source_shares, SOURCES)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierRun(JsonConfig):
    """A run of a classifier of actions or of a reader of keys."""

    train: TrainConfig
    episodes: int | None = None
    """Episodes that a reader of keys is trained on."""


RunT = TypeVar("RunT", TokenizerRun, TransformerRun)
ConfigT = TypeVar("ConfigT", bound=JsonConfig)


def read_run(path: Path, default: RunT) -> RunT:
    """The default run, with the settings of a config file in place of its own.

    Raises ValueError, one sentence that names the file and the setting.
    """
    data = _settings(path)
    train = data.get("train")
    if isinstance(train, dict) and any(train.get(budget) is not None for budget in BUDGETS):
        data = {**data, "train": dict.fromkeys(BUDGETS) | train}
    return _with(default, data, path)


def read_over(path: Path, default: ConfigT) -> ConfigT:
    """The default with the settings of a JSON file in place of its own.

    Raises ValueError, one sentence that names the file and the setting.
    """
    return _with(default, _settings(path), path)


def _settings(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} does not hold the settings of a run")
    return data


def _with(default: ConfigT, changes: dict[str, Any], path: Path) -> ConfigT:
    try:
        return type(default).from_dict(_over(default.to_dict(), changes))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the changes; nested settings are merged."""
    return base | {
        name: _over(base[name], value)
        if isinstance(value, dict) and isinstance(base.get(name), dict)
        else value
        for name, value in changes.items()
    }


def keep_run(
    run: JsonConfig,
    run_folder: Path,
    option: str | None = "--config",
    may_change: Collection[str] = MAY_CHANGE,
) -> None:
    """Writes the run's settings into its folder.

    may_change: settings that may differ from the folder's: with another budget a run can be made
    longer. option: the option that reads such a file, named in the error, or None.
    Raises ValueError if the folder has a run with other settings.
    """
    path = run_folder / RUN_FILE
    settings = _plain(run)
    if path.is_file():
        # A setting that an older file lacks had its present default then.
        try:
            known = _plain(type(run).read(path))
        except ValueError as error:
            raise ValueError(
                f"the settings of run folder {run_folder.name!r} cannot be read: {error}; delete "
                f"{path.name} to resume with the settings of this command"
            ) from error
        for name in _differing(known, settings):
            if name.removeprefix("train.") not in may_change:
                other = "" if option is None else f", or continue this run with {option} {path}"
                raise ValueError(
                    f"{run_folder} holds a run with another {name}: use another run folder{other}"
                )
    run_folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=2) + "\n")


def keep_sources(
    folders: Mapping[str, Path | None],
    run_folder: Path,
    *,
    has_begun: bool | None = None,
    tokenizer: str | None = None,
) -> dict[str, str]:
    """The fingerprint of each folder of data, by name; also written into the run folder, with the
    tokenizer's.

    has_begun: whether the run has trained already; default: `is_begun` of its folder. Raises
    ValueError if a begun run was trained on other data, and MediaError for a missing folder.
    """
    found = {name: folder_fingerprint(path) for name, path in folders.items() if path is not None}
    keep_fingerprints(
        found if tokenizer is None else {**found, "tokenizer": tokenizer},
        run_folder,
        "was trained on other data than --{} names now: name its unchanged first folder, or take"
        " another run folder",
        has_begun,
    )
    return found


def keep_fingerprints(
    found: Mapping[str, str], run_folder: Path, refusal: str, has_begun: bool | None = None
) -> None:
    """Writes the fingerprints of a run's data, by name, into the run folder.

    has_begun: as in keep_sources. Raises ValueError if a begun run has other fingerprints. The
    sentence begins with the folder and ends with `refusal`, in which {} stands for the name that
    differs.
    """
    path = run_folder / SOURCES_FILE
    has_begun = is_begun(run_folder) if has_begun is None else has_begun
    if has_begun and path.is_file():
        known = _read_fingerprints(path)
        # Earlier versions kept no fingerprint of the tokenizer.
        names = known.keys() | (found.keys() - ({"tokenizer"} - known.keys()))
        for name in sorted(names):
            if known.get(name) != found.get(name):
                raise ValueError(f"run folder {run_folder.name!r} {refusal.format(name)}")
    run_folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dict(found), indent=2) + "\n")


def _read_fingerprints(path: Path) -> dict[str, Any]:
    try:
        known = read_json(path)
        if not isinstance(known, dict):
            raise ValueError(f"{path.name} does not hold the fingerprints of folders")
    except ValueError as error:
        raise ValueError(
            f"the training data of run folder {path.parent.name!r} is not known: {error}; "
            f"delete {path.name} to resume with the data of this command"
        ) from error
    return known


def is_begun(run_folder: Path) -> bool:
    """Whether a run has trained already: its folder has a checkpoint, a model or models."""
    return any((run_folder / name).exists() for name in (CHECKPOINT_FILE, MODEL_FOLDER, "models"))


def _plain(run: JsonConfig) -> dict[str, Any]:
    """The settings of a run as in its file."""
    settings: dict[str, Any] = json.loads(json.dumps(run.to_dict()))
    return settings


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of the settings that differ, as section.name."""
    names: list[str] = []
    for name in sorted(one.keys() | other.keys()):
        first, second = one.get(name), other.get(name)
        if isinstance(first, dict) and isinstance(second, dict):
            names += [f"{name}.{inner}" for inner in _differing(first, second)]
        elif first != second:
            names.append(name)
    return names

"""The only mutable state of the studio: models found and loaded, device, output folder, jobs."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from app.folders import (
    UPLOADS,
    file_bytes,
    keep_private,
    oldest_first,
    private_folder,
    trim,
)
from app.jobs import NO_MEMORY, JobQueue
from app.library import Library
from app.turns import Turns
from nbp_core.config.description import (
    CheckpointError,
    load_config,
    read_config,
    read_description,
)
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import COSMOS, PAPER_PRESETS, RANDOM_WEIGHTS
from nbp_core.generation.offer import ModelOffer, read_offer
from nbp_core.media.files import MediaError, is_full
from nbp_core.memory import is_memory_error

if TYPE_CHECKING:
    from nbp_core.generation.pipeline import VideoPipeline

logger = logging.getLogger(__name__)

MAX_LOADED = 2
"""Models held in memory at once."""

QUICK_BYTES = 32 * 2**20
"""Size of weights with which a laptop's processor makes a clip in about a second."""

UPLOADS_AT_ONCE = 4
"""While files are uploaded, they may take this many times the session's limit, so that a visitor
can choose several large ones one after the other. The next run trims them to the limit itself."""

Loader = Callable[[str], "VideoPipeline"]
Written = TypeVar("Written")


SPEED_ONLY = {f"{preset} ({RANDOM_WEIGHTS})": preset for preset in PAPER_PRESETS}
"""Untrained models of the paper's sizes, as the page names them."""


def find_models(folder: Path, kind: str = "transformer") -> dict[str, Path]:
    """Name -> folder of every transformer (or tokenizer) in a folder of models, smallest first.

    A folder whose config.json cannot be used, or whose name no page can show, is left out; the list
    of models says why.
    """
    found = []
    for path in folder.glob("*/config.json"):
        if not path.parent.name.isprintable():
            continue
        try:
            is_wanted = read_description(path.parent)["kind"] == kind
            read_config(path.parent)
        except CheckpointError:
            continue
        if is_wanted:
            found.append((_weights_size(path.parent), path.parent.name, path.parent))
    return {name: path for _, name, path in sorted(found)}


def _weights_size(folder: Path) -> int:
    return sum(file_bytes(path) for path in folder.glob("*.safetensors"))


class Session:
    """Everything that changes while the studio runs."""

    def __init__(
        self,
        models: Path,
        device: str = "auto",
        *,
        assets: Path | None = None,
        results: Path | None = None,
        is_local: bool = False,
        max_clips: int = 50,
        max_bytes: int = 1_000_000_000,
        clips: Path | None = None,
        max_clip_bytes: int = 1_000_000_000,
        cosmos: Path | None = None,
        int8: bool = False,
        int4: bool = False,
        load: Loader | None = None,
        describe: Callable[[str], ModelOffer] | None = None,
    ) -> None:
        """`cosmos` is the folder of the Cosmos tokenizer, for models trained on it; `results` that
        of measured figures; `clips` the user's folder for clips (without one they go with the
        session) and `max_clip_bytes` its limit; `is_local` whether the studio is served to this
        machine alone; `int8` and `int4`, how models hold their large matrices. Raises ValueError
        where they cannot.
        """
        if int8 or int4:
            from nbp_core.device import choose_device
            from nbp_core.packed.formats import choose_format

            choose_format(choose_device(device), int8, int4)
        self.models = models
        self.device = device
        self.assets = assets
        self.results = results
        self.is_local = is_local
        self.turns = Turns()
        """Shares the processor between the worker's jobs and the players."""
        self.jobs = JobQueue(keep=max_clips, turns=self.turns)
        self._outputs = private_folder()
        self._uploads = UPLOADS.open(self._outputs, UPLOADS_AT_ONCE * max_bytes)
        self._passing = private_folder() if clips is None else None
        self.library = Library(clips or self._passing or self._outputs, max_clip_bytes)
        self.opening = threading.Lock()
        """Held while a kept clip is opened: the next page finds the files of the first."""
        self._writing = set[Path]()
        """Folders that a run or a page writes into at this moment."""
        self._is_closed = False
        self.max_clips = max_clips
        self.max_bytes = max_bytes
        self._cosmos = cosmos
        self._bits = {"int8": int8, "int4": int4}
        self._load = load or self._load_pipeline
        self._describe = describe or self._read_offer
        self._loaded: OrderedDict[str, VideoPipeline] = OrderedDict()
        self._looking = threading.Lock()
        self._loading = threading.Lock()

    @property
    def outputs(self) -> Path:
        """A private folder for what is made, there even if somebody has removed it meanwhile."""
        return self._outputs if self._is_closed else keep_private(self._outputs)

    @property
    def uploads(self) -> Path:
        """The private folder for uploads, there even if somebody has removed it meanwhile."""
        return self._uploads if self._is_closed else keep_private(self._uploads)

    @property
    def keeps_clips(self) -> bool:
        """Whether clips outlive the session."""
        return self._passing is None

    def model_names(self) -> list[str]:
        """The models there are at this moment, the smallest first."""
        return list(find_models(self.models))

    def first_model(self) -> str | None:
        """The model that the page chooses at first: the largest quick one, else the smallest."""
        found = find_models(self.models)
        quick = [name for name, folder in found.items() if _weights_size(folder) <= QUICK_BYTES]
        return quick[-1] if quick else next(iter(found), None)

    def speed_only_names(self) -> list[str]:
        """The untrained models that can be timed: they borrow a tokenizer that is there."""
        return list(SPEED_ONLY) if find_models(self.models, "tokenizer") else []

    def model_called(self, name: str) -> str:
        """The model that a clip names: by its folder, or by the name in its configuration.

        Raises ValueError when there is none.
        """
        found = find_models(self.models)
        if name in found or name in self.speed_only_names():
            return name
        for other, folder in found.items():
            if load_config(folder, TransformerConfig).name == name:
                return other
        raise ValueError(no_model(name, self.models))

    def model_with_keys(self) -> str | None:
        """The smallest model that answers to keys; none is loaded to find it."""
        for name, folder in find_models(self.models).items():
            with contextlib.suppress(ValueError):  # damaged: the Models tab says why
                if load_config(folder, TransformerConfig).keys:
                    return name
        return None

    def loaded(self, name: str | None) -> VideoPipeline | None:
        """The model of that name if it is in memory."""
        with self._looking:
            if not isinstance(name, str) or name not in self._loaded:
                return None
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def offer(self, name: str | None) -> ModelOffer:
        """The blocks, actions and sizes that a model offers, without loading it.

        Raises ValueError with a reason.
        """
        found = self.loaded(name)
        return found if found is not None else self._describe(self._known(name))

    def load_soon(self, name: str | None) -> None:
        """Begins to load a model in a thread of its own; whoever wants it waits for that."""

        def load() -> None:
            try:
                self.pipeline(name)
            except ValueError:  # the page says why when it asks for the model
                logger.info("the model %r cannot be loaded", name)

        threading.Thread(target=load, name="first model", daemon=True).start()

    def pipeline(self, name: str | None) -> VideoPipeline:
        """The model of that name, loaded at its first use. Raises ValueError with a reason.

        Only who wants a model that is not there waits while one is loaded.
        """
        found = self.loaded(name)
        if found is not None:
            return found
        name = self._known(name)
        with self._loading:
            return self.loaded(name) or self._load_in_place(name)

    def _known(self, name: str | None) -> str:
        if name is None or name not in [*self.model_names(), *self.speed_only_names()]:
            raise ValueError(no_model(name, self.models))
        return name

    def _read_offer(self, name: str) -> ModelOffer:
        if name in SPEED_ONLY:
            preset = PAPER_PRESETS[SPEED_ONLY[name]]
            return ModelOffer(replace(preset, name=name), COSMOS)
        return read_offer(find_models(self.models)[name])

    def _load_in_place(self, name: str) -> VideoPipeline:
        with self._looking:
            while len(self._loaded) >= MAX_LOADED:
                self._loaded.popitem(last=False)
        try:
            pipeline = self._load(name)
        except Exception as error:
            if is_memory_error(error):
                raise ValueError(NO_MEMORY) from error
            raise
        with self._looking:
            self._loaded[name] = pipeline
        return pipeline

    def _load_pipeline(self, name: str) -> VideoPipeline:
        # Imported when first needed: it takes seconds, and looking for models needs none of it.
        from nbp_core.generation.pipeline import VideoPipeline

        if name in SPEED_ONLY:
            tokenizer = next(iter(find_models(self.models, "tokenizer").values()))
            return VideoPipeline.speed_only(SPEED_ONLY[name], tokenizer, self.device, **self._bits)
        folder = find_models(self.models)[name]
        return VideoPipeline.from_pretrained(
            folder, device=self.device, cosmos=self._cosmos, **self._bits
        )

    def forget_models(self) -> None:
        """Reads every model anew at its next use: its folder may hold others now."""
        with self._looking:
            self._loaded.clear()

    def new_output(self, job_id: str) -> Path:
        """An empty folder for what a job makes; the oldest ones go when there are too many."""
        folders = oldest_first(self.outputs)
        for folder in folders[: max(0, len(folders) - self.max_clips + 1)]:
            shutil.rmtree(folder, ignore_errors=True)
        self.make_room()
        folder = self._output_folder(job_id)
        folder.mkdir(exist_ok=True)
        return folder

    def make_room(self) -> None:
        """Deletes the oldest files that were made or uploaded here until the others fit."""
        trim(self.max_bytes, self.outputs, self.uploads)

    def write_output(self, job_id: str, write: Callable[[Path], Written]) -> Written:
        """What `write` makes of a job's new folder; on a full disk it has a second try without the
        files of other jobs. The gallery has their clips, but for those that are just written."""
        folder = self._output_folder(job_id)
        self._writing.add(folder)
        try:
            return write(self.new_output(job_id))
        except (OSError, MediaError) as error:
            if not is_full(error):
                raise
            for other in oldest_first(self.outputs):
                if other == folder or other not in self._writing:
                    shutil.rmtree(other, ignore_errors=True)
            return write(self.new_output(job_id))
        finally:
            self._writing.discard(folder)

    def _output_folder(self, job_id: str) -> Path:
        return self.outputs / re.sub(r"\W", "_", job_id)

    def close(self) -> None:
        """Ends the running job and removes what was made, but for clips in the user's folder."""
        self.jobs.close()
        self._is_closed = True
        self._loaded.clear()
        self.remove_files()

    def remove_files(self) -> None:
        """Removes every file that was made or uploaded here."""
        UPLOADS.close(self._outputs)
        shutil.rmtree(self._outputs, ignore_errors=True)
        if self._passing is not None:
            shutil.rmtree(self._passing, ignore_errors=True)


def no_model(name: str | None, models: Path) -> str:
    """Why there is no such model, in one sentence."""
    if name:
        return f"There is no model {name!r} in the folder {models.name!r}."
    if found := list(find_models(models)):
        return f"Choose a model: {', '.join(found)}."
    return f"The folder {models.name!r} holds no model yet; train one or start with --models DIR."

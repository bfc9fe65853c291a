"""VideoPipeline: the entry point of generation for the app, the command line and Python.

Input and output are NumPy arrays. Tokenizer and transformer meet here, as integers. Shapes:
frames_THWC uint8, tokens_thw int64, B samples of a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nbp_core.attention_maps.view import AttentionView, look_into
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.description import CheckpointError, load_config
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import PAPER_PRESETS, RANDOM_WEIGHTS
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, Size3, check_sides
from nbp_core.config.weight_files import weights_sha256
from nbp_core.device import choose_device
from nbp_core.generation.odds import TokenOdds, token_odds
from nbp_core.generation.offer import WORLDS, ModelOffer, checked_keys, is_camera_move
from nbp_core.generation.play import Play
from nbp_core.generation.reconstruction import Reconstruction, reconstruct
from nbp_core.generation.recording import (
    Fingerprint,
    PlayRecording,
    World,
    fingerprint_of,
)
from nbp_core.generation.records import Generation, Tokens
from nbp_core.generation.request import GenerateRequest, RunRequest
from nbp_core.generation.run import GenerationRun
from nbp_core.media.files import Frames
from nbp_core.media.video import crop_resize
from nbp_core.models.pairing import find_tokenizer
from nbp_core.models.speed_only import SpeedOnlyTokenizer, random_packed
from nbp_core.packed.formats import choose_format
from nbp_core.packed.model import load_packed
from nbp_core.packed.tokenizer import tokenizer_for_decoding
from nbp_core.sampling.steps import decoder_of
from nbp_core.tokenizer.cosmos import CosmosTokenizer
from nbp_core.tokenizer.interface import Tokenizer, to_clip
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.model import BlockTransformer, num_parameters

MANIFEST_FORMAT = 1
START_ACTION = "drawer-open"
"""The action whose generated first frame starts a play of the arm without a first frame, for
models that know it."""


class VideoPipeline(ModelOffer):
    """A transformer with its tokenizer, on one device."""

    def __init__(
        self,
        transformer: BlockTransformer,
        tokenizer: Tokenizer,
        identity: dict[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        """`identity`, the fingerprints of the weights, is part of every manifest. `folder` is the
        transformer's folder, which may hold a text tokenizer.

        Raises ValueError if tokenizer and transformer do not belong together.
        """
        self.transformer = transformer
        self.decoder = decoder_of(transformer)
        self.tokenizer = tokenizer
        self.identity = identity or {}
        config = transformer.config
        if config.codebook_size != tokenizer.config.codebook_size:
            raise CheckpointError(
                f"model {config.name!r} has {config.codebook_size:,} video ids but tokenizer "
                f"{tokenizer.config.name!r} has {tokenizer.config.codebook_size:,} codes"
            )
        super().__init__(config, tokenizer.config)
        self.conditions = Conditions(config, folder)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "auto",
        cosmos: Path | None = None,
        int8: bool = False,
        int4: bool = False,
    ) -> Self:
        """Loads a transformer's folder and its tokenizer.

        The tokenizer is in the folder that the transformer's config names. If that is missing, it
        is the one beside the transformer's folder whose weights have the SHA-256 in the config.
        device: "cpu", "cuda" or "auto". cosmos: folder of the Cosmos tokenizer for a model trained
        with it; loading its files runs code. int8, int4: store the transformer's large matrices in
        8 or 4 bits, which is faster and less exact. Raises CheckpointError (a ValueError), one
        sentence, if something is missing or corrupt, or if tokenizer and transformer do not belong
        together, and ValueError for a device or a weight format that this machine does not have.
        """
        folder = Path(folder)
        load_config(folder, TransformerConfig)
        tokenizer_folder, fingerprint = find_tokenizer(folder, cosmos)
        chosen = choose_device(device)
        transformer = load_packed(folder, chosen, int8, int4)
        tokenizer: Tokenizer
        if tokenizer_folder == cosmos:
            tokenizer = CosmosTokenizer.from_folder(tokenizer_folder, device=chosen)
        else:
            tokenizer = tokenizer_for_decoding(tokenizer_folder, chosen)
        identity = {"sha256": weights_sha256(folder), "tokenizer_sha256": fingerprint}
        identity |= {"weight_format": transformer.weight_format}
        return cls(transformer, tokenizer, identity, folder)

    @classmethod
    def speed_only(
        cls,
        preset: str,
        tokenizer_folder: Path,
        device: str = "auto",
        int8: bool = False,
        int4: bool = False,
    ) -> Self:
        """A model of the paper's size with random weights. A notice marks its frames as noise.

        preset: "XL", "XXL" or "3B". device, int8, int4: as in from_pretrained. Raises ValueError
        for another preset, if there is not enough memory, and as from_pretrained does.
        """
        if preset not in PAPER_PRESETS:
            raise ValueError(f"preset {preset!r} is not one of {', '.join(PAPER_PRESETS)}")
        chosen = choose_device(device)
        weight_format = choose_format(chosen, int8, int4)
        transformer = random_packed(PAPER_PRESETS[preset], chosen, weight_format)
        inner = tokenizer_for_decoding(tokenizer_folder, chosen)
        identity = {"weights": RANDOM_WEIGHTS, "weight_format": weight_format}
        return cls(transformer, SpeedOnlyTokenizer(inner), identity)

    @property
    def device(self) -> str:
        return next(self.transformer.parameters()).device.type

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.transformer.config)

    @property
    def codebook_size(self) -> int:
        """Number of codes that a token can be."""
        return self.tokenizer.config.codebook_size

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of levels of each FSQ digit of a token; their product is codebook_size."""
        return self.tokenizer.config.levels

    @property
    def side(self) -> int:
        """Side of a frame in pixels."""
        return self.grid[1] * self.tokenizer.config.space_factor

    def reconstruct(self, frames_THWC: Frames) -> Reconstruction:
        """Encodes and decodes frames_THWC, 1 + 4n frames of any size (cropped and resized).

        Raises ValueError for another number of frames, or for a model with random weights.
        """
        return reconstruct(self.tokenizer, self.to_clip(frames_THWC))

    def tokenize(self, frames_THWC: Frames) -> Tokens:
        """The first 1 + 4n frames, of any size -> tokens_thw. Further frames are ignored.

        Raises ValueError as to_clip does.
        """
        factor = self.tokenizer.config.time_factor
        whole_THWC = frames_THWC[: 1 + (len(frames_THWC) - 1) // factor * factor]
        tokens: Tokens = self.tokenizer.encode(self.to_clip(whole_THWC))[0].cpu().numpy()
        return tokens

    def attention(
        self, tokens_thw: Tokens, action: str | None = None, block_shape: Size3 | None = None
    ) -> AttentionView:
        """Attention maps of a clip: one masked forward pass over its tokens in this block shape.

        A clip longer than the model's grid is cut to its length. Raises ValueError for an action, a
        block shape or tokens that the model does not support.
        """
        if block_shape is not None:
            check_sides("block shape", block_shape)
        tokens_Bthw = self._first_frames(tokens_thw)
        layout = sequence_layout(self.transformer.config, block_shape, tokens_Bthw.shape[1])
        conditions, _ = self.conditions.ids(action, guidance_scale=1)
        return look_into(self.transformer, layout, tokens_Bthw, conditions)

    def token_odds(
        self, tokens_thw: Tokens, action: str | None = None, sampling: SamplingConfig | None = None
    ) -> TokenOdds:
        """The probability of each token of a clip, and the likeliest codes at its place.

        `sampling` gives block shape, temperature and guidance. A clip longer than the model's grid
        is cut to its length. Raises ValueError for an action, a block shape or tokens that the
        model does not support.
        """
        sampling = sampling or SamplingConfig()
        tokens_Bthw = self._first_frames(tokens_thw)
        layout = sequence_layout(
            self.transformer.config, sampling.block_shape, tokens_Bthw.shape[1]
        )
        conditions, nulls = (
            None if ids is None else ids.to(self.device)
            for ids in self.conditions.ids(action, sampling.guidance)
        )
        return token_odds(
            self.transformer, layout, tokens_Bthw, conditions, nulls,
            sampling.temperature, sampling.guidance,
        )  # fmt: skip

    def _first_frames(self, tokens_thw: Tokens) -> Tensor:
        """The tokens of a clip (B = 1), at most as many latent frames as the grid has.

        Raises ValueError for tokens that do not fit the model's grid and codebook.
        """
        is_whole = tokens_thw.ndim == 3 and tokens_thw.shape[1:] == self.grid[1:]
        if not is_whole or not len(tokens_thw) or tokens_thw.dtype.kind not in "iu":
            raise ValueError("these tokens do not fill whole latent frames of this model")
        tokens = tokens_thw[: self.grid[0]].astype(np.int64)
        codes = self.codebook_size
        if tokens.min() < 0 or tokens.max() >= codes:
            raise ValueError(
                f"the clip has tokens outside this model's codebook of {codes:,} codes"
            )
        return torch.from_numpy(tokens)[None].to(self.device)

    def generate(
        self,
        action: str | None = None,
        frames_THWC: Frames | None = None,
        num_frames: int = CLIP_FRAMES,
        sampling: SamplingConfig | None = None,
        stop: threading.Event | None = None,
        actions: Sequence[str] = (),
    ) -> Generation:
        """Generates a clip of num_frames frames from an action, known first frames, or both.

        frames_THWC: the context, uint8 RGB, 1 + 4n frames of any size (cropped to a square and
        resized). num_frames: 1 + 4n; a clip longer than the model's grid is continued. actions:
        in place of one action, the action of each new latent frame (four frames); the last one
        holds for the rest. stop: once it is set, the clip so far is returned. Raises ValueError,
        one sentence, for requests that the model cannot fulfil.
        """
        with self.stream(action, frames_THWC, num_frames, sampling, stop, actions) as run:
            for _ in run:
                continue
        return run.generation()

    def stream(
        self,
        action: str | None = None,
        frames_THWC: Frames | None = None,
        num_frames: int = CLIP_FRAMES,
        sampling: SamplingConfig | None = None,
        stop: threading.Event | None = None,
        actions: Sequence[str] = (),
    ) -> GenerationRun:
        """Like generate, step by step: an iterator of BlockStep.

        Use it in a `with` statement if it may be left before its end. Its generation() returns the
        clip so far. Setting `stop` ends it before the next step.
        """
        request = GenerateRequest(
            action=action,
            actions=tuple(actions),
            frames_THWC=frames_THWC,
            num_frames=num_frames,
            sampling=sampling or SamplingConfig(),
        )
        return self.start(request, stop=stop)

    def start(
        self, *requests: GenerateRequest, stop: threading.Event | None = None
    ) -> GenerationRun:
        """Starts one clip per request, all in one batch; otherwise as stream.

        On a CPU each clip equals the clip of the same request alone. Also raises ValueError without
        requests, and for requests that differ in length, context length or sampling; seeds may
        differ.
        """
        return GenerationRun(self.decoder, self.tokenizer, self._assemble(requests), stop)

    def _assemble(self, requests: Sequence[GenerateRequest]) -> RunRequest:
        """Checks the requests and assembles the inputs of the models."""
        if not requests:
            raise ValueError("a batch needs at least one request")
        first = requests[0]
        num_context, num_frames, sampling = (
            first.num_context_frames, first.num_frames, first.sampling,
        )  # fmt: skip
        if any(not other.can_join(first) for other in requests):
            raise ValueError("clips of one batch must have equal lengths, contexts and sampling")
        conditions, nulls = self._conditions(requests)
        context = self._context(requests)
        if context is None and self.needs_context:
            raise ValueError(
                f"model {self.name!r} cannot start from an action: choose first frames to extend"
            )
        shape = sampling.block_shape or self.transformer.config.block_shape
        return RunRequest(
            num_samples=len(requests),
            context_BCTHW=context,
            conditions_BP=conditions,
            null_conditions_BP=nulls,
            frame_conditions_Bt=self._frame_conditions(requests),
            segments=self._segments(shape, num_context, num_frames),
            num_steps=self.num_steps(shape, num_context, num_frames),
            num_frames=num_frames,
            block_shape=shape,
            sampling=sampling,
            seeds=tuple(request.sampling.seed for request in requests),
            manifests=tuple(self._manifest(request, shape) for request in requests),
        )

    def _conditions(
        self, requests: Sequence[GenerateRequest]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Ids (B, P) of the actions and, with guidance, of 'no condition'."""
        chosen, nulls = [], []
        for request in requests:
            guidance = request.sampling.guidance
            ids, without = self.conditions.ids(self._first_action(request), guidance)
            if request.actions and guidance != 1 and without is None:
                # The prefix has no condition. Keys guide from the first new latent frame on.
                without = ids
            if ids is not None:
                chosen.append(ids)
            if without is not None:
                nulls.append(without)
        if nulls and len(nulls) < len(requests):
            raise ValueError("guidance needs an action for every clip")
        return (
            torch.cat(chosen).to(self.device) if chosen else None,
            torch.cat(nulls).to(self.device) if nulls else None,
        )

    def _first_action(self, request: GenerateRequest) -> str | None:
        """The action of the first latent frame, which no key moves."""
        if not request.actions:
            return request.action
        first = request.actions[0]
        return None if first in self.transformer.config.keys else first

    def _frame_conditions(self, requests: Sequence[GenerateRequest]) -> Tensor | None:
        """Ids (B, t) of the conditions of all latent frames; None if they change in no clip."""
        if not any(request.actions for request in requests):
            return None
        if not self.transformer.config.frame_conditions:
            raise ValueError(f"model {self.name!r} has one action per clip, which cannot change")
        return torch.tensor([self._timeline(request) for request in requests], device=self.device)

    def _timeline(self, request: GenerateRequest) -> list[int]:
        """The condition id of each latent frame of a clip."""
        factor = self.tokenizer.config.time_factor
        latents = 1 + (request.num_frames - 1) // factor
        known = 1 + (max(1, request.num_context_frames) - 1) // factor
        if len(request.actions) > latents - known:
            raise ValueError(
                f"{len(request.actions)} actions of {factor} frames each are longer than the "
                f"{request.num_frames - max(1, request.num_context_frames)} new frames of the clip"
            )
        names = request.actions or (request.action,)
        for name in names:
            self.conditions.ids(name, guidance_scale=1)
        before = [self._first_action(request)] * known
        rest = [names[-1]] * (latents - known - len(names))
        return [self.conditions.id(name) for name in (*before, *names, *rest)]

    def _context(self, requests: Sequence[GenerateRequest]) -> Tensor | None:
        """The known frames as a batch of clips; a single clip if all requests share it."""
        contexts = [request.frames_THWC for request in requests]
        if all(frames_THWC is contexts[0] for frames_THWC in contexts):
            contexts = contexts[:1]
        clips = [self.to_clip(frames_THWC) for frames_THWC in contexts if frames_THWC is not None]
        return torch.cat(clips) if clips else None

    def _manifest(self, request: GenerateRequest, block_shape: Size3) -> dict[str, Any]:
        """All settings and fingerprints that repeat a request."""
        return {
            "format": MANIFEST_FORMAT,
            "generated": True,
            "software": "NBP Studio",
            "model": self.name,
            "tokenizer": self.tokenizer_name,
            **self.identity,
            **request.settings(block_shape),
            "device": self.device,
            "torch": torch.__version__,
        }

    @property
    def fingerprint(self) -> Fingerprint:
        """Identifies what computes the frames: weights, weight format and kind of device."""
        return fingerprint_of(self.name, self.identity, self.device)

    def play(
        self,
        first_frame: Frames | None = None,
        world: World = "arm",
        sampling: SamplingConfig | None = None,
    ) -> Play:
        """A clip that follows keys: `with pipeline.play(...) as play: play.step(play.keys[0])`.

        first_frame: frame_HWC uint8 of any size; None generates one, in the arm world only.
        sampling: if it has no guidance scale, the model's `key_guidance` is used. The same start,
        seed and keys give the same frames. Raises ValueError for a world or sampling that the model
        does not support.
        """
        sampling = sampling or SamplingConfig()
        if world not in WORLDS:
            raise ValueError(f"world must be one of {', '.join(WORLDS)}, not {world!r}")
        checked_keys(self.config, world)
        if first_frame is not None:
            tokens_Bthw = self.tokenizer.encode(self.to_clip(first_frame[None]))
        elif world == "arm":
            made = self.generate(self._scene_action(), num_frames=1, sampling=sampling)
            tokens_Bthw = torch.from_numpy(made.tokens_thw)[None].to(self.device)
        else:
            raise ValueError(f"the {world} world needs a first frame")
        return self._play_from(tokens_Bthw[:, 0], world, sampling)

    def _scene_action(self) -> str | None:
        """The action that generates the scene of a play; None if all actions move the camera."""
        if START_ACTION in self.actions:
            return START_ACTION
        return next((action for action in self.actions if not is_camera_move(action)), None)

    def play_recording(self, recording: PlayRecording) -> Play:
        """A play from the start of a recording: `play.replay(recording)` then yields its steps.

        The same weights on the same kind of processor give the same frames;
        `recording.differences(pipeline.fingerprint)` lists what differs. Raises ValueError if
        another tokenizer encoded the first frame, and as `play` does.
        """
        recorded, here = recording.fingerprint.tokenizer_sha256, self.fingerprint.tokenizer_sha256
        tokens_hw = recording.tokens_hw
        if recorded != here or tokens_hw.shape != self.grid[1:]:
            raise ValueError(
                f"the recording's first frame was encoded by another tokenizer than that of model "
                f"{self.name!r}"
            )
        if tokens_hw.max() >= self.tokenizer.config.codebook_size:
            raise ValueError(f"the recording's first frame has tokens that {self.name!r} lacks")
        first_Bhw = torch.from_numpy(tokens_hw)[None].to(self.device)
        return self._play_from(first_Bhw, recording.world, recording.sampling)

    def _play_from(self, first_Bhw: Tensor, world: World, sampling: SamplingConfig) -> Play:
        self.decoder.wait_until_ready()
        return Play(
            self.transformer,
            self.tokenizer,
            self.conditions,
            first_Bhw,
            world,
            sampling,
            self.fingerprint,
        )

    def to_clip(self, frames_THWC: Frames) -> Tensor:
        """frames_THWC uint8, 1 + 4n of any size -> clip_BCTHW in [0, 1] (B = 1), on the device.

        Frames of another size than the model's are cropped to a square and resized. Raises
        ValueError for another type, shape or number of frames.
        """
        if frames_THWC.ndim != 4 or frames_THWC.shape[3] != 3 or frames_THWC.dtype != np.uint8:
            raise ValueError("frames must be uint8 of shape (T, H, W, 3)")
        if not frames_THWC.size:
            raise ValueError(f"there is no pixel in frames of shape {frames_THWC.shape}")
        side = self.side
        if frames_THWC.shape[1:3] != (side, side):
            frames_THWC = crop_resize(frames_THWC, side)
        self.tokenizer.config.grid(len(frames_THWC), side, side)
        return to_clip(frames_THWC[None].copy(), self.device)

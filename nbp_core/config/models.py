"""What a model folder's config.json holds: tokenizers, transformers, classifiers.

The limits are far above any model of the paper. They refuse a file whose model would only fail
after minutes of building it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from nbp_core.config.json import JsonConfig, check_range, check_text
from nbp_core.config.shapes import LayoutKind, Size3

MAX_WIDTH = 65_536
MAX_LAYERS = 1_000
MAX_KERNEL = 64
MAX_CODES = 2**31
MAX_TOKENS = 2**20
"""Most tokens in a clip's grid."""


def check_kernels(config: JsonConfig, *names: str) -> None:
    """Raises ValueError for the first of these kernels (t, h, w) that has no middle; None passes.

    A causal convolution is padded with two frames, so that it spans one or three."""
    check_range(config, 1, MAX_KERNEL, *names)
    for name in names:
        kernel = getattr(config, name)
        if kernel is not None and (
            kernel[0] not in (1, 3) or any(side % 2 == 0 for side in kernel)
        ):
            raise ValueError(
                f"{name} must be 1 or 3 frames and odd numbers of pixels, not {list(kernel)}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig(JsonConfig):
    """Residual units of one resolution; encoder and decoder may have different numbers of them."""

    width: int
    encoder_units: int
    decoder_units: int
    kernel: Size3 = (3, 3, 3)
    second_kernel: Size3 | None = None
    """Kernel of each unit's second convolution; None is `kernel`. A kernel over space in the first
    and over time in the second costs less than half of one over both."""

    def __post_init__(self) -> None:
        check_range(self, 1, MAX_WIDTH, "width")
        check_range(self, 1, MAX_LAYERS, "encoder_units", "decoder_units")
        check_kernels(self, "kernel", "second_kernel")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenGridConfig(JsonConfig):
    """The codes and the grid of a tokenizer, which is all that other parts of the program need."""

    name: str
    levels: tuple[int, ...]
    """FSQ levels of each latent channel; their product is the codebook size."""

    def __post_init__(self) -> None:
        check_text(self, "name")
        if not self.levels or min(self.levels) < 2:
            raise ValueError(
                f"levels must be a list of numbers of at least 2, not {list(self.levels)}"
            )
        check_range(self, 2, MAX_CODES, "levels")
        if self.codebook_size > MAX_CODES:
            raise ValueError(f"levels have {self.codebook_size:,} codes, more than {MAX_CODES:,}")

    @property
    def codebook_size(self) -> int:
        return math.prod(self.levels)

    @property
    @abstractmethod
    def time_factor(self) -> int:
        """Frames per latent frame. The first latent frame is a single frame."""

    @property
    @abstractmethod
    def space_factor(self) -> int:
        """Side of a token's patch in pixels."""

    def grid(self, num_frames: int, height: int, width: int) -> Size3:
        """(t, h, w) of the tokens of a clip. Raises ValueError for a size that does not fit."""
        time, space = self.time_factor, self.space_factor
        if num_frames < 1 or (num_frames - 1) % time:
            raise ValueError(f"a clip must have 1 + {time}n frames, not {num_frames}")
        if height % space or width % space or not height or not width:
            raise ValueError(f"frame sides must be multiples of {space}, not {height} x {width}")
        return 1 + (num_frames - 1) // time, height // space, width // space

    def num_frames(self, num_latent_frames: int) -> int:
        """Number of frames of a clip of this many latent frames."""
        return 1 + (num_latent_frames - 1) * self.time_factor


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig(TokenGridConfig):
    """Causal 3D CNN with FSQ. Stages run from the finest to the coarsest resolution."""

    stages: tuple[StageConfig, ...]
    strides: tuple[Size3, ...]
    """Downsampling between neighbouring stages, one fewer than stages."""
    patch: int = 1
    """Side of the space-to-depth stem: pixels of a patch x patch square become channels."""
    up_kernel: Size3 = (3, 3, 3)
    io_kernel: Size3 = (3, 3, 3)
    """Kernel of the first encoder and the last decoder convolution."""
    norm_groups: int = 32

    def __post_init__(self) -> None:
        TokenGridConfig.__post_init__(self)
        check_range(self, 1, MAX_KERNEL, "patch")
        check_kernels(self, "up_kernel", "io_kernel")
        check_range(self, 1, MAX_WIDTH, "norm_groups")
        if any(not 1 <= side <= MAX_KERNEL for stride in self.strides for side in stride):
            raise ValueError(f"every number of strides must be 1 to {MAX_KERNEL}")
        if len(self.strides) != len(self.stages) - 1:
            raise ValueError("a tokenizer needs one stride fewer than it has stages")
        if any(stage.width % self.norm_groups for stage in self.stages):
            raise ValueError(f"every stage width must be a multiple of {self.norm_groups}")

    @property
    def time_factor(self) -> int:
        return math.prod(stride[0] for stride in self.strides)

    @property
    def space_factor(self) -> int:
        return self.patch * math.prod(stride[1] for stride in self.strides)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignTokenizerConfig(TokenGridConfig):
    """A tokenizer that is not ours but cuts a clip into the paper's grid."""

    @property
    def time_factor(self) -> int:
        return 4

    @property
    def space_factor(self) -> int:
        return 8


KeyAxis = tuple[str, int, str, int]
"""(key, its most presses above the other's, opposite key, its most presses above the first's)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig(JsonConfig):
    """Block-attention transformer over one sequence layout (defined in blocks/sequences.py)."""

    name: str
    num_layers: int
    width: int
    num_heads: int
    layout: LayoutKind
    codebook_size: int
    block_shape: Size3 = (1, 1, 16)
    """Trained block shape; for elastic models only the default one."""
    grid: Size3 = (5, 16, 16)
    num_conditions: int = 0
    """Size of the condition vocabulary; an elastic model's last one means 'no condition'."""
    prefix_len: int = 0
    """Condition tokens before BOV."""
    actions: tuple[str, ...] = ()
    """Names of the condition ids, in order; empty when prompts are text."""
    keys: tuple[str, ...] = ()
    """Names of further condition ids, after the actions: a player's keys, one per latent frame."""
    key_guidance: float = 1.0
    """Default guidance scale of plays: the one with which this model follows keys best
    (docs/experiments.md). 1 is off."""
    key_reach: tuple[KeyAxis, ...] = ()
    """How far a play follows the arm's keys: for each pair of opposite keys, by how many presses
    the one may exceed the other. A key beyond that moves nothing (generation/reach.py)."""
    frame_conditions: bool = False
    """Whether each latent frame has a condition of its own, not only the prefix."""
    window: int | None = None
    """Number of latent frames before the predicted one that a position attends to, besides the
    first frame. With a window sequences may have any length; without one they end with the grid."""
    max_len: int = 5120
    """Number of learned absolute positions (plain and hybrid layouts)."""
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    rope: bool = False
    rms_norm: bool = False
    swiglu: bool = False
    tied_head: bool = False
    aimed: bool = False
    """Whether a learned map per condition moves the rotary place of queries (positions.Aim)."""

    FORMER: ClassVar = frozenset({"second_look"})

    def __post_init__(self) -> None:
        check_text(self, "name", "actions", "keys")
        check_range(self, 1, MAX_LAYERS, "num_layers")
        check_range(self, 1, MAX_WIDTH, "width", "num_heads")
        check_range(self, 1, MAX_TOKENS, "grid", "block_shape", "max_len")
        check_range(self, 1, MAX_CODES, "codebook_size")
        check_range(self, 0, MAX_CODES, "num_conditions")
        check_range(self, 0, MAX_TOKENS, "prefix_len")
        check_range(self, 0.01, 100, "mlp_ratio")
        check_range(self, 0, 30, "key_guidance")
        check_range(self, 0, 1, "dropout")
        for one, most_of_one, other, most_of_other in self.key_reach:
            if not {one, other} <= set(self.keys) or min(most_of_one, most_of_other) < 0:
                raise ValueError("key_reach must name keys, each with a number of at least 0")
        if math.prod(self.grid) > MAX_TOKENS:
            raise ValueError(f"grid {list(self.grid)} has more than {MAX_TOKENS:,} tokens")
        named = len(self.actions) + len(self.keys)
        if named > self.num_conditions:
            raise ValueError(
                f"{named} actions and keys need as many num_conditions, not {self.num_conditions}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.num_heads} heads")
        if self.layout == "plain" and (self.prefix_len or self.num_conditions):
            raise ValueError("a plain layout has no condition prefix")
        if self.hidden_width < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio:g} is too small for width {self.width}")
        if self.prefix_len and not self.num_conditions:
            raise ValueError(f"a prefix of {self.prefix_len} tokens needs num_conditions")
        needed = self.prefix_len + math.prod(self.grid)
        if self.layout == "plain":
            needed -= math.prod(self.block_shape)  # the last block is never fed
        if self.layout != "elastic" and needed > self.max_len:
            raise ValueError(
                f"max_len must be at least {needed:,}, the positions of a clip, not "
                f"{self.max_len:,}"
            )
        if self.rope and self.layout != "elastic":
            raise ValueError("RoPE over (t, h, w) needs the elastic layout")
        if self.rope and (self.width // self.num_heads) % 16:
            raise ValueError("RoPE over (t, h, w) needs a head width that is a multiple of 16")
        if self.aimed and not (self.rope and self.prefix_len == 1):
            raise ValueError("aimed queries need RoPE and a prefix_len of 1")
        if self.frame_conditions and not (self.layout == "elastic" and self.prefix_len == 1):
            raise ValueError("frame_conditions need the elastic layout and a prefix_len of 1")
        if self.window is not None and not (self.rope and self.window >= self.grid[0] - 1):
            raise ValueError(
                f"a window needs RoPE and at least {self.grid[0] - 1} latent frames, one fewer "
                "than the grid has"
            )

    @property
    def hidden_width(self) -> int:
        """Width inside of an MLP; with SwiGLU, whose matrices are three, two thirds of it."""
        if self.swiglu:
            return 32 * round(self.mlp_ratio * self.width * 2 / 3 / 32)
        return int(self.mlp_ratio * self.width)

    @property
    def num_special(self) -> int:
        """BOV and the middle tokens: S ids, for the largest S of an elastic model."""
        if self.layout == "plain":
            return 0
        if self.layout == "hybrid":
            return math.prod(self.block_shape)
        return self.grid[1] * self.grid[2]

    @property
    def first_condition_id(self) -> int:
        return self.num_special

    @property
    def first_video_id(self) -> int:
        return self.num_special + self.num_conditions

    @property
    def vocab_size(self) -> int:
        return self.first_video_id + self.codebook_size


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierConfig(JsonConfig):
    """Convolutions over a small clip, then one score per action."""

    name: str
    actions: tuple[str, ...]
    widths: tuple[int, ...] = (24, 48, 96, 192)
    """Channels of the stages; each halves height and width, the third and later ones time too."""
    num_frames: int = 9
    side: int = 64
    stacked: bool = False
    """Whether the frames become channels of one picture: the first frame and the changes after it.
    This suits small motion over few frames. Otherwise time is convolved too."""

    def __post_init__(self) -> None:
        check_text(self, "name", "actions")
        if not self.actions or not self.widths:
            raise ValueError("a classifier needs actions and widths")
        check_range(self, 1, MAX_WIDTH, "widths")
        check_range(self, 1, 4096, "num_frames", "side")

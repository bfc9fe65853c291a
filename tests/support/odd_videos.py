"""Recipes for odd videos, made with the bundled ffmpeg from its own test picture and tone."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import imageio_ffmpeg

_PICTURE = "-f lavfi -i testsrc=size={size}:rate={rate}"
_TONE = "-f lavfi -i sine=duration=0.3"
_X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


@dataclass(frozen=True)
class Recipe:
    """Arguments of ffmpeg for one file."""

    output: str
    frames: int = 8
    size: str = "64x48"
    rate: str = "8"
    source: str = _PICTURE
    verdict: Literal["frames", "refused", "either"] = "frames"
    is_slow: bool = False


VIDEOS = {
    "mp4": Recipe(_X264 + " -movflags +faststart -f mp4"),
    "mp4-index-last": Recipe(_X264 + " -f mp4"),
    "mp4-fragmented": Recipe(_X264 + " -movflags frag_keyframe+empty_moov -f mp4"),
    "mov": Recipe("-c:v mjpeg -f mov"),
    "mkv": Recipe(_X264 + " -f matroska"),
    "webm": Recipe("-c:v libvpx -deadline realtime -f webm"),
    "avi": Recipe("-c:v mpeg4 -f avi"),
    "mpg": Recipe("-c:v mpeg1video -f mpeg", rate="25"),
    "mp4-odd-sides": Recipe("-c:v libx264 -pix_fmt yuv444p -f mp4", size="63x47"),
    "mp4-tiny": Recipe("-c:v libx264 -pix_fmt yuv444p -f mp4", size="2x2"),
    "mp4-wide": Recipe(_X264 + " -f mp4", size="1200x16"),
    "mp4-grey": Recipe("-c:v libx264 -pix_fmt gray -f mp4"),
    "mp4-ten-bits": Recipe("-c:v libx264 -pix_fmt yuv420p10le -f mp4", verdict="either"),
    "mp4-five-frames": Recipe(_X264 + " -f mp4", frames=5),
    "mp4-four-frames": Recipe(_X264 + " -f mp4", frames=4, verdict="refused"),
    "mp4-one-frame": Recipe(_X264 + " -f mp4", frames=1, verdict="refused"),
    "mp4-no-frame": Recipe(_X264 + " -f mp4", frames=0, verdict="refused"),
    "mp4-slow": Recipe(_X264 + " -f mp4", rate="1/10"),
    "mp4-fast": Recipe(_X264 + " -f mp4", rate="480"),
    "mp4-uneven": Recipe(
        "-vf setpts=(N*N+N)/(8*TB) -fps_mode vfr " + _X264 + " -f mp4"
    ),
    "mp4-upside-down": Recipe(_X264 + " -bf 2 -f mp4", source="-display_rotation 90 " + _PICTURE),
    "mp4-with-sound": Recipe(_X264 + " -c:a aac -f mp4", source=f"{_PICTURE} {_TONE}"),
    "mp4-sound-only": Recipe("-c:a aac -f mp4", source=_TONE, verdict="refused"),
    "ogv-sound-only": Recipe("-c:a libvorbis -f ogg", source=_TONE, verdict="refused"),
    "wav-sound-only": Recipe("-f wav", source=_TONE, verdict="refused"),
    "mp4-giant": Recipe(
        _X264 + " -f mp4", frames=1, size="8192x5120", verdict="refused", is_slow=True
    ),
    "mp4-long": Recipe(_X264 + " -f mp4", frames=3000, is_slow=True),
}  # fmt: skip


CONTAINERS = ("mp4", "mp4-index-last", "mp4-fragmented", "mov", "mkv", "webm", "avi", "mpg")
"""Those that are worth spoiling."""


@cache
def encode(kind: str) -> bytes:
    """The file of a recipe."""
    recipe = VIDEOS[kind]
    source = recipe.source.format(size=recipe.size, rate=recipe.rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out")
        frames = [] if recipe.source == _TONE else ["-frames:v", str(recipe.frames)]
        command = ["-v", "error", "-y", *source.split(), *frames, *recipe.output.split(), str(path)]
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *command], check=True, capture_output=True)
        return path.read_bytes()

"""Decodes videos: upright, in their display aspect, as sRGB on white, by time.

One run of ffmpeg decodes a file. Before decoding, it logs a description of the file. If that
requires other filters than the usual ones (untagged HD, HDR, transparency in a separate layer, a
window of a long clip), the run is stopped and another one is started with these filters.
Shape letters: T H W frames and pixels, C colour.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nbp_core.cgroup import cores
from nbp_core.config.json import reason
from nbp_core.media import ffmpeg
from nbp_core.media.files import (
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_PIXELS,
    Frames,
    MediaError,
    shown_name,
    too_large,
    too_long,
)

_SMALL_BYTES = 2**18
"""A smaller file is decoded by one thread, since starting more takes longer than they save."""
_MAX_THREADS = 4

# Containers only: playlists and scripts name other files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpeg,mpegts,mpegvideo,h264,hevc,dv,mxf,flv,"
    "asf,ivf,obu,vvc,nut,yuv4mpegpipe,png_pipe"
)
PROTECTED = ("-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS)
"""Arguments before an input that may be anything."""

_DEEP = "format=gbrp16|gbrap16"
"""RGB of 16 bits, with transparency where there is any."""
_HD_WIDTH, _SD_HEIGHT = 1280, 576
"""From this width, or above this height, colours without a tag are BT.709's; else BT.601's."""
_WIDE_GAMUTS = ("bt2020", "smpte431", "smpte432")
_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
_SCREEN_TRANSFERS = ("iec61966-2-1", "bt470m")
"""sRGB and gamma 2.2. Other transfers of SDR are taken for BT.709's."""
_UNINDEXED = ("mpeg", "mpegts")
"""Containers that do not say which frames are keyframes, nor the time of every frame."""
_LEAD_SECONDS = 10.0
"""Seconds that are decoded before a window of such a container, to know its frames and times."""
_ZSCALE_MATRICES = ("ycgco", "bt2020c", "chroma-derived-nc", "chroma-derived-c", "ictcp")
"""Matrices that only the filter `zscale` knows, not `scale`."""
_WHITE_NITS, _PEAK_NITS = 203, 1000
"""Diffuse white in HDR (ITU-R BT.2408), and the brightest value that is kept distinct, in cd/m2."""
_KNEE = 0.9
"""Linear light below it is unchanged; light from there to the peak is compressed."""
_LEAST_INTERLACED = 16
"""Smallest side in pixels that is deinterlaced: the filter refuses planes of colour below 3."""
_LATE_MICROSECONDS = 10_000
"""Tolerance for late frames, since containers round times."""

_INPUT = re.compile(r"\[info\] Input #(\d+), (\S+), ")
_DURATION = re.compile(r"\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)")
_STREAM = re.compile(
    r"\[info\] +Stream #\d+:(?P<index>\d+)[^:]*: Video: (?P<codec>\w+).*?"
    r", (?P<pixels>\w+)(?:\((?P<tags>(?:[^()]|\([^)]*\))*+)\))?"
    r", (?P<width>\d+)x(?P<height>\d+)(?P<rest>\D.*|)$"
)
_UNSIZED = re.compile(r"\[info\] +Stream #\d+:(?P<index>\d+)[^:]*: Video: (?P<codec>\w+)")
"""A video stream of which nothing could be decoded, perhaps beside others."""
_ANY_STREAM = "  Stream #"
_LAYER = re.compile(r"\[info\]     +alpha_mode +: 1$")
_TURN = re.compile(r"\[info\] +Display Matrix: rotation of (-?)90\.")
_COUNT = re.compile(r"\[Parsed_fps_\d+ @ .*\] (\d+) frames in, ")
_DAMAGED = "is damaged: some of its frames cannot be decoded whole"
_DAMAGE = re.compile(
    r"corrupt decoded frame|Error submitting packet to decoder|CRC mismatch"
    r"|first frame (?:is no|not a) keyframe"
)
_FIRST_FRAME = "[info] Output #"
"""The start of the log line that follows the decoding of the first frame."""
_FROM_KEYFRAME = r"noise=drop=not(st(0\,ld(0)+key))"
"""Drops packets until one holds a keyframe."""
_UNSUPPORTED = re.compile(
    r"Impossible to convert between|\] \[error\] Unsupported input \("
    r"|\[Parsed_zscale_\d+ @ \w+\] \[error\] code "
)
"""What the filters say of colours that they cannot convert."""
_CODEC_ERROR = re.compile(
    r"^\[(?P<codec>\w+) @ \w+\] \[error\] (?!overread|.*\bEXIF\b)", re.MULTILINE
)
_NO_DECODER = "Decoding requested, but no decoder found"
_MARKING_CODECS = frozenset({
    "h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "wmv2", "h263", "flv",
    "vp8", "vp9", "av1", "libdav1d", "libvpx", "theora",
})  # fmt: skip
"""Codecs that mark incomplete frames, and whose other errors are often harmless."""
_CHANGED = re.compile(
    r"Reconfiguring filter graph because video parameters changed to (\w+)\(.*?, (\d+)x(\d+)"
)
_KEPT = re.compile(
    r"filter context - w: (\d+) h: (\d+) fmt: (\d+) .*"
    r"incoming frame - w: (?!\1 h: \2 fmt: \3 )"
)
"""A frame of another size or pixel format, in a run that keeps its filters."""
_RATE = re.compile(r", ([\d.]+)(k?) fps")
_PAM = re.compile(
    rb"P7\nWIDTH (\d+)\nHEIGHT (\d+)\nDEPTH ([34])\nMAXVAL 255\nTUPLTYPE \w+\nENDHDR\n"
)
_COLOURS = re.compile(
    r"(?P<matrix>[\w-]+)/(?P<primaries>[\w-]+)/(?P<transfer>[\w-]+)"
    r"|(?P<all>bt709|bt470m|bt470bg|smpte170m|smpte240m)"
)
"""Tags of colour, among tags of range, field order and chroma location."""
_LAYER_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders for the transparency of WebM, which is a second picture with each frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """A video stream as ffmpeg describes it; tags that are not set are 'unknown'."""

    index: int
    codec: str
    pixels: str = "none"
    """ffmpeg's name of the format of its pixels."""
    width: int = 0
    """0 where nothing of it could be decoded."""
    height: int = 0
    matrix: str = "unknown"
    primaries: str = "unknown"
    transfer: str = "unknown"
    fps: float | None = None
    is_default: bool = False
    has_layer: bool = False
    """Whether its transparency is a separate layer."""
    is_opaque: bool = False
    """Whether the fourth byte of its pixels means nothing."""
    is_interlaced: bool = False
    """Whether its header says so."""
    turn: str | None = None
    """The direction in which ffmpeg turns it by 90 degrees, by ffmpeg's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The content of a file; `seconds` is the duration in its header, if any."""

    container: str = ""
    """ffmpeg's name or names of the format."""
    seconds: float | None = None
    streams: tuple[Stream, ...] = ()

    @property
    def stream(self) -> Stream | None:
        """The stream to decode: the file's default, else the largest."""
        sized = [stream for stream in self.streams if stream.width]
        return max(sized, key=lambda s: (s.is_default, s.width * s.height), default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """Which frames to take from a file: at most `count`, from `start` seconds on."""

    count: int
    fps: float | None = None
    """Frames per second, each the frame on screen at its time; None takes every frame."""
    start: float = 0.0
    seconds: float | None = None
    """Seconds of the file to decode; None decodes until there are enough frames."""
    indices: tuple[int, ...] = ()
    """Indices of the file's frames to keep; empty keeps all."""
    is_from_keyframe: bool = False
    """Whether to skip frames before the first keyframe, which need others that are missing."""
    keeps_filters: bool = False
    """Whether the filters run on when tags of colour change; else they, and time, begin anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """The frames_THWC of a take, the description of their file, and its number of frames seen."""

    frames_THWC: Frames
    source: Source
    num_seen: int


class NoFrameError(MediaError):
    """A take that found no frame at all."""


Plan = Callable[[Source], Take]
"""Chooses a take from the description of a file; Source() is that of an unknown file."""


def describe(path: Path) -> Source:
    """The content of a file by its header and first frame; Source() if there is none to decode."""
    arguments: list[ffmpeg.Argument] = [*PROTECTED, "-i", ffmpeg.file_url(path.absolute())]
    # Without an output, the run ends after its description of the input.
    ended = ffmpeg.run_logged(arguments, lambda log: True, "info")
    return _sources(ended.log, 1)[0]


def decode(path: Path, plan: Plan) -> Decoded:
    """Decodes frames of one video. Raises MediaError, one sentence, if it cannot be read."""
    (decoded,) = decode_many([path], plan)
    if isinstance(decoded, MediaError):
        raise decoded
    return decoded


def decode_many(paths: Sequence[Path], plan: Plan) -> Iterator[Decoded | MediaError]:
    """Decodes short videos in one run, in order; one run for many takes little longer than for one.

    A video that cannot be read gives a MediaError in place of its frames.
    """
    if len(paths) > 1:
        with _outputs(len(paths)) as outputs:
            ended = None
            with contextlib.suppress(OSError):  # a command that is too long for the system
                ended, sources = _run(paths, outputs, plan)
            if ended and ended.status == 0 and not _fault(ended.log, sources):
                # The log of many says how many frames were seen, but not of which.
                silent = replace(ended, log=[])
                for job in zip(paths, outputs, sources, strict=True):
                    yield _result(*job, silent)
                return
    # One bad file ends the run of all, and the log does not say which one it was.
    for path in paths:
        try:
            yield _decode_one(path, plan)
        except OSError as error:
            yield MediaError(f"{shown_name(path)} cannot be read: {reason(error)}.")


def _decode_one(path: Path, plan: Plan) -> Decoded | MediaError:
    with _outputs(1) as outputs:
        ended, sources = _run([path], outputs, plan)
        if _changes_its_tags(ended.log, sources[0].stream):
            plan = _keeping_filters(plan)
            ended, sources = _run([path], outputs, plan)
        if _is_damaged_at_first(ended.log):
            # It may begin between two keyframes, as a cut or a recorded broadcast does.
            plan = _from_keyframe(plan)
            ended, sources = _run([path], outputs, plan)
        if _fault(ended.log, sources) == _DAMAGED and plan(sources[0]).fps:
            # The damage may be beyond the frames that are taken, since how far a run reads ahead is
            # random. So the file is read again, only up to their end.
            ended, sources = _run([path], outputs, _limited(plan))
        return _result(path, outputs[0], sources[0], ended)


def _keeping_filters(plan: Plan) -> Plan:
    return lambda source: replace(plan(source), keeps_filters=True)


def _from_keyframe(plan: Plan) -> Plan:
    return lambda source: replace(plan(source), is_from_keyframe=True)


def _limited(plan: Plan) -> Plan:
    def limited(source: Source) -> Take:
        take = plan(source)
        return replace(take, seconds=take.count / take.fps if take.fps else None)

    return limited


@contextlib.contextmanager
def _outputs(count: int) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(prefix="nbp-", ignore_cleanup_errors=True) as folder:
        yield [Path(folder, f"{index}.pam") for index in range(count)]


def _run(
    paths: Sequence[Path], outputs: Sequence[Path], plan: Plan
) -> tuple[ffmpeg.Ended, list[Source]]:
    sources = [Source()] * len(paths)
    commands = [_command(*job, plan) for job in zip(paths, sources, strict=True)]

    def is_wanted(log: list[str]) -> bool:
        nonlocal sources, commands
        before = commands
        sources = _sources(log, len(paths))
        commands = [_command(*job, plan) for job in zip(paths, sources, strict=True)]
        return commands == before

    # The verbose log says how many frames a file has, and takes time to read.
    level = "verbose" if len(paths) == 1 else "info"
    ended = ffmpeg.run_logged(_arguments(commands, outputs), is_wanted, level)
    if ended.is_unwanted:
        ended = ffmpeg.run_logged(_arguments(commands, outputs), lambda log: True, level)
    elif not any(source.streams for source in sources):
        # The run ended before all inputs were open.
        sources = _sources(ended.log, len(paths))
    return ended, sources


@dataclass(frozen=True, kw_only=True, slots=True)
class _Command:
    """Arguments of ffmpeg for one file: before and after its name, and the stream to map."""

    before: tuple[str, ...]
    url: bytes
    stream: str
    after: tuple[str, ...]


def _command(path: Path, source: Source, plan: Plan) -> _Command:
    take, stream = plan(source), source.stream
    lead = _lead(source, take)
    cut = f"trim={lead:.3f}," if lead else ""
    is_small = path.stat().st_size < _SMALL_BYTES
    threads = 1 if is_small else min(_MAX_THREADS, cores())
    # "-map V" leaves out cover pictures.
    # fmt: off
    return _Command(
        before=(
            *PROTECTED, "-max_pixels", str(MAX_PIXELS), "-threads", str(threads),
            *(["-c:v", _LAYER_DECODERS[stream.codec]] if stream and stream.has_layer else []),
            *(["-ss", f"{take.start - lead:.3f}"] if take.start > lead else []),
            *(["-t", f"{lead + take.seconds:.3f}"] if take.seconds else []),
            *(["-bsf:v", _FROM_KEYFRAME] if take.is_from_keyframe else []),
            *(["-reinit_filter", "0"] if take.keeps_filters else []),
            "-i",
        ),
        url=ffmpeg.file_url(path.absolute()),
        stream="V:0" if stream is None or stream == source.streams[0] else str(stream.index),
        after=(
            "-filter:v", cut + filters(stream, take), "-fps_mode", "passthrough",
            "-frames:v", str(take.count), "-fs", str(MAX_DECODED_BYTES), "-threads", "1",
            "-c:v", "pam", "-f", "image2pipe",
        ),
    )
    # fmt: on


def _lead(source: Source, take: Take) -> float:
    """Seconds to decode, and to leave out, before a take."""
    return min(take.start, _LEAD_SECONDS) if source.container in _UNINDEXED else 0.0


def _arguments(commands: Sequence[_Command], outputs: Sequence[Path]) -> list[ffmpeg.Argument]:
    arguments: list[ffmpeg.Argument] = ["-y", "-filter_threads", "1"]
    for command in commands:
        arguments += [*command.before, command.url]
    for index, (command, output) in enumerate(zip(commands, outputs, strict=True)):
        arguments += ["-map", f"{index}:{command.stream}", *command.after, ffmpeg.file_url(output)]
    return arguments


def filters(stream: Stream | None, take: Take) -> str:
    """The filters from a file's frames to the taken frames, in RGB or RGBA.

    ffmpeg rotates and mirrors frames before the filters, by the file's display matrix.
    """
    # Counted in microseconds, since the time base of a file may be as coarse as its frames.
    steps = ["settb=1/1000000", _times(take)]
    if stream is None or min(stream.width, stream.height) >= _LEAST_INTERLACED:
        # Frames that are not flagged as interlaced pass as they are.
        deinterlaced = "bwdif=mode=send_frame:deint=interlaced"
        if stream is not None and stream.is_interlaced and stream.turn:
            # The lines of its fields are columns now.
            back = {"clock": "cclock", "cclock": "clock"}[stream.turn]
            deinterlaced = f"transpose={back},{deinterlaced},transpose={stream.turn}"
        steps.append(deinterlaced)
    if take.fps is not None:
        # Rounded up, each time gets the last frame that began before it: the one on screen.
        # Trimmed here, since "-frames:v" ends the run only after a whole pause was filled.
        steps += [f"fps={take.fps:g}:round=up", f"trim=end_frame={take.count}"]
    if take.indices:
        steps.append("select='" + "+".join(f"eq(n,{index})" for index in take.indices) + "'")
    if take.fps is None:
        # Every frame counts, also where two have one time.
        steps += ["settb=1", "setpts=N"]
    if stream is not None and stream.matrix in _ZSCALE_MATRICES:
        steps += ["zscale=m=gbr:r=full", _DEEP]
    steps.append(_scaled(stream))
    if stream is not None and _needs_conversion(stream):
        # A transfer of SDR stays, as it does where nothing else is converted.
        kept = stream.transfer if stream.transfer in _SCREEN_TRANSFERS else "bt709"
        is_bright = stream.transfer in (*_HDR_TRANSFERS, "linear")
        steps += converted(stream.primaries, stream.transfer if is_bright else kept, kept)
    is_opaque = stream is not None and stream.is_opaque
    return ",".join([*steps, "format=rgb24" if is_opaque else "format=rgb24|rgba"])


def _times(take: Take) -> str:
    """Times of frames from 0. A pause is shortened to the length of the take plus one second."""
    first = f"PTS-STARTPTS-{_LATE_MICROSECONDS}"
    if take.fps is None:
        return f"setpts={first}"
    longest = round((take.count / take.fps + 1) * 1_000_000)
    # The first frame has none before it, and a raw stream may have no times at all.
    later = f"PREV_OUTPTS+min(PTS-PREV_INPTS,{longest})"
    return f"setpts='if(isnan(PREV_OUTPTS+PTS),{first},{later})'"


def _scaled(stream: Stream | None) -> str:
    """Scales to square pixels (keeping the shorter side), at most MAX_FRAME_PIXELS."""
    # A ratio of nearly 1 is a rounding error, an extreme one a mistake.
    aspect = "if(lt(abs(sar-1),0.01),1,clip(sar,0.05,20))"
    wide, high = f"iw*max(1,{aspect})", f"ih*max(1,1/{aspect})"
    shrink = f"min(1,sqrt({MAX_FRAME_PIXELS}/({wide})/({high})))"
    size = f"w='max(1,round({wide}*{shrink}))':h='max(1,round({high}*{shrink}))'"
    return f"scale={size}:flags=bicubic+full_chroma_int{_guessed_matrix(stream)}"


def _guessed_matrix(stream: Stream | None) -> str:
    """The option for a matrix that the tags do not state; ffmpeg itself assumes BT.601's."""
    # "gbr" says that there is none. ffmpeg does not use the option for RGB.
    if stream is None or stream.matrix not in ("unknown", "gbr"):
        return ""
    if stream.primaries == "bt2020" or stream.transfer in _HDR_TRANSFERS:
        return ":in_color_matrix=bt2020"
    is_hd = stream.width >= _HD_WIDTH or stream.height > _SD_HEIGHT
    return ":in_color_matrix=bt709" if is_hd else ""


def _needs_conversion(stream: Stream) -> bool:
    is_bright = stream.transfer in _HDR_TRANSFERS or stream.transfer == "linear"
    return is_bright or stream.primaries in _WIDE_GAMUTS


def converted(primaries: str, transfer: str, to_transfer: str) -> list[str]:
    """The filters from RGB of these colours to RGB with the primaries of BT.709.

    primaries and transfer: by ffmpeg's names. Bright light of HDR is compressed.
    """
    is_hdr = transfer in _HDR_TRANSFERS
    if primaries == "unknown":
        primaries = "bt2020" if is_hdr else "bt709"
    peak = _PEAK_NITS / _WHITE_NITS
    return [
        _DEEP,
        f"zscale=min=gbr:rin=full:tin={transfer}:pin={primaries}"
        f":m=gbr:r=full:t=linear:p=bt709:npl={_WHITE_NITS}",
        "format=gbrpf32|gbrapf32",
        *([f"tonemap=tonemap=mobius:param={_KNEE}:peak={peak:.3f}:desat=0"] if is_hdr else []),
        f"zscale=t={to_transfer}:r=full",
        "format=gbrp|gbrap",
    ]


def _sources(log: Sequence[str], count: int) -> list[Source]:
    """The description of each input in the log."""
    found = [Source() for _ in range(count)]
    number = -1
    for line in log:
        if match := _INPUT.match(line):
            number = min(int(match[1]), count - 1)
            found[number] = replace(found[number], container=match[2])
        elif line.startswith("[info] Output #"):
            break
        elif number >= 0:
            found[number] = _with_line(found[number], line)
    return found


def _with_line(source: Source, line: str) -> Source:
    if match := _DURATION.match(line):
        hours, minutes, seconds = match.groups()
        return replace(source, seconds=3600 * int(hours) + 60 * int(minutes) + float(seconds))
    if "(attached pic)" in line:
        return source
    if match := _STREAM.match(line):
        # In AVI, the fourth byte of a pixel is unused (BI_RGB).
        is_opaque = source.container == "avi" and match["codec"] == "rawvideo"
        stream = replace(_stream(match), is_opaque=is_opaque)
        return replace(source, streams=(*source.streams, stream))
    if match := _UNSIZED.match(line):
        unsized = Stream(index=int(match["index"]), codec=match["codec"])
        return replace(source, streams=(*source.streams, unsized))
    if source.streams:
        *others, last = source.streams
        if _LAYER.match(line) and last.codec in _LAYER_DECODERS:
            return replace(source, streams=(*others, replace(last, has_layer=True)))
        if match := _TURN.match(line):
            turned = replace(last, turn="clock" if match[1] else "cclock")
            return replace(source, streams=(*others, turned))
    return source


def _stream(match: re.Match[str]) -> Stream:
    tags = (match["tags"] or "").split(", ")
    colours = next(filter(None, map(_COLOURS.fullmatch, tags)), None)
    matrix, primaries, transfer = (
        (colours["all"] or colours[name] if colours else "unknown")
        for name in ("matrix", "primaries", "transfer")
    )
    rate = _RATE.search(match["rest"])
    return Stream(
        index=int(match["index"]),
        codec=match["codec"],
        pixels=match["pixels"],
        width=int(match["width"]),
        height=int(match["height"]),
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        fps=float(rate[1]) * (1000 if rate[2] else 1) if rate else None,
        is_default="(default)" in match["rest"],
        is_interlaced=any(" first" in tag for tag in tags),
    )


def _result(path: Path, output: Path, source: Source, ended: ffmpeg.Ended) -> Decoded | MediaError:
    name = shown_name(path)
    stream = source.stream
    if stream is not None and (large := too_large(path, stream.width, stream.height)):
        return large
    if ended.is_late:
        return MediaError(f"{name} takes too long to read.")
    if stream is None and any(" Audio: " in line for line in ended.log):
        return MediaError(f"{name} has sound but no moving pictures.")
    if not source.streams and any(_ANY_STREAM in line for line in ended.log):
        return MediaError(f"{name} has no moving pictures.")
    if any(_NO_DECODER in line for line in ended.log):
        return MediaError(f"{name} is encoded in a way that is not supported, or is encrypted.")
    if fault := _fault(ended.log, [source]):
        return MediaError(f"{name} {fault}.")
    frames_THWC = _read_pam(output)
    if frames_THWC is None:
        return NoFrameError(f"{name} is damaged: it has no frame that can be read.")
    if ended.status != 0:
        return MediaError(f"{name} is damaged: it cannot be read to its end.")
    if output.stat().st_size >= MAX_DECODED_BYTES:
        return too_long(path)
    seen = [int(match[1]) for line in ended.log if (match := _COUNT.match(line))]
    num_seen = seen[-1] if seen else len(frames_THWC)
    return Decoded(frames_THWC=frames_THWC, source=source, num_seen=num_seen)


def _fault(log: Sequence[str], sources: Sequence[Source]) -> str | None:
    """The fault of the frames themselves, as the end of a sentence; None for none."""
    codecs = {stream.codec for source in sources for stream in source.streams}
    decoding = _decoding(log)
    if _CHANGED.search(decoding) or _KEPT.search(decoding):
        return "changes its size or pixel format midway, which is not supported"
    if ffmpeg.NO_SPACE in decoding:
        return "cannot be read: there is no space for its frames on the disk"
    if "Cannot allocate memory" in decoding:
        return "cannot be read: its frames take too much memory"
    if _UNSUPPORTED.search(decoding):
        return "has colours of a kind that is not supported"
    return _DAMAGED if _is_damaged(decoding, codecs - _MARKING_CODECS) else None


def _decoding(log: Sequence[str]) -> str:
    """The part of a log that is about the frames, not the inputs."""
    return "\n".join(log[log.index(ffmpeg.INPUTS_OPEN) :]) if ffmpeg.INPUTS_OPEN in log else ""


def _changes_its_tags(log: Sequence[str], stream: Stream | None) -> bool:
    """Whether the frames change midway, but neither in size nor in pixel format."""
    changes = set(_CHANGED.findall(_decoding(log)))
    return stream is not None and changes == {
        (stream.pixels, str(stream.width), str(stream.height))
    }


def _is_damaged_at_first(log: Sequence[str]) -> bool:
    """Whether a frame before the first whole one is marked as damaged."""
    return _DAMAGE.search(_decoding(log).partition(_FIRST_FRAME)[0]) is not None


def _is_damaged(log: str, codecs: set[str]) -> bool:
    """Whether a frame is marked as damaged, or one of these codecs, which mark none, failed."""
    errors = {error["codec"] for error in _CODEC_ERROR.finditer(log)}
    return bool(errors & codecs) or _DAMAGE.search(log) is not None


def _read_pam(path: Path) -> Frames | None:
    """frames_THWC of a file of PAM pictures, on white; None if the file is incomplete."""
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    header = _PAM.match(data[:200].tobytes())
    if header is None:
        return None
    width, height, depth = (int(value) for value in header.groups())
    start = header.end()
    length = start + width * height * depth
    if len(data) % length:
        return None
    pictures = data.reshape(-1, length)
    if (pictures[:, :start] != pictures[0, :start]).any():
        return None
    frames_THWC = pictures[:, start:].reshape(-1, height, width, depth)
    return _on_white(frames_THWC) if depth == 4 else np.ascontiguousarray(frames_THWC)


def _on_white(frames_THWC: Frames) -> Frames:
    """RGBA frames (straight alpha) composited onto white."""
    laid_THWC = np.empty((*frames_THWC.shape[:3], 3), np.uint8)
    for frame_HWC, laid_HWC in zip(frames_THWC, laid_THWC, strict=True):
        alpha_HW1 = frame_HWC[..., 3:].astype(np.uint32)
        laid_HWC[:] = (frame_HWC[..., :3] * alpha_HW1 + (255 - alpha_HW1) * 255 + 127) // 255
    return laid_THWC

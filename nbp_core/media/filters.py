"""The filters of ffmpeg: from the frames of a file to the taken ones, upright, in sRGB, by time."""

from __future__ import annotations

from dataclasses import dataclass

from nbp_core.media.describe import Stream
from nbp_core.media.files import MAX_FRAME_PIXELS

_DEEP = "format=gbrp16|gbrap16"
"""RGB of 16 bits, with transparency where there is any."""
_HD_WIDTH, _SD_HEIGHT = 1280, 576
"""From this width, or above this height, colours without a tag are BT.709's; else BT.601's."""
_WIDE_GAMUTS = ("bt2020", "smpte431", "smpte432")
_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
_SCREEN_TRANSFERS = ("iec61966-2-1", "bt470m")
"""sRGB and gamma 2.2. Other transfers of SDR are taken for BT.709's."""
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

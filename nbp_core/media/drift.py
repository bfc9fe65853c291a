"""How much a long clip changes from its first frames on: fine detail and colour.

Shapes: N clips, T H W frames, C colour (RGB, 8 bits).
"""

from __future__ import annotations

import cv2
import numpy as np

from nbp_core.media.files import Frames


def sharpness(frame_HWC: Frames) -> float:
    """Standard deviation of the Laplacian of a frame's brightness: fine detail, or noise."""
    return float(cv2.Laplacian(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std())


def mean_sharpness(frames_NTHWC: Frames) -> float:
    """Mean sharpness of every fourth frame of each clip."""
    return float(np.mean([sharpness(frame) for clip in frames_NTHWC for frame in clip[::4]]))


def colour_drift(frames_NTHWC: Frames, first_NHWC: Frames) -> float:
    """Distance between the mean colour of a window and that of the first frame, in grey levels.

    It is the root mean square over R, G and B, as a mean over the clips.
    """
    change = frames_NTHWC.mean((1, 2, 3)) - first_NHWC.mean((1, 2))
    return float(np.sqrt((change**2).mean(1)).mean())

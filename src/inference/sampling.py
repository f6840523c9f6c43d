"""Decides which frames are analysed, by presentation time alone."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Fixed = float | Literal["keyframes"] | None
"""Frames per second of presentation time; keyframes and no others; None for every frame."""

Rate = Fixed | Literal["auto"]
"""`auto`: where nothing changes the keyframes, and elsewhere `AUTO_FPS`; see `survey`."""

AUTO_FPS = 5.0

TOLERANCE_MS = 1.0
"""Containers round times to their time base (Matroska: 1 ms); a frame that lands this little
before its boundary still belongs to it."""

_KEYFRAMES_JOIN_MS = 1000.0
"""As long a pause as motion may make; a freeze and black, of 2 s, then rest on three samples."""


def joins_ms(rate: Rate) -> float:
    """Tell how far apart two neighbouring samples may be if one state is to last between them.

    At a rate, as far as they are: either no frame lies between them, or no more than an interval.
    Between two keyframes anything may have happened.
    """
    return _KEYFRAMES_JOIN_MS if rate in ("keyframes", "auto") else math.inf


@dataclass(slots=True)
class Sampler:
    """Takes the first frame of each 1/fps of presentation time, counted from `origin_ms`.

    Counting buckets instead of adding intervals keeps the error of a three-hour video at zero,
    and a stretch without frames (variable frame rate, damage) costs nothing after it.
    """

    rate: Fixed
    origin_ms: float
    """Presentation time of the video's first frame."""
    _taken: int = -1

    def take(self, pts_ms: float, *, is_keyframe: bool = False) -> bool:
        """Decide on the next frame; times must ascend. The first one is always taken."""
        if self.rate is None:
            return True
        if self.rate == "keyframes":
            is_first, self._taken = self._taken < 0, 0
            return is_first or is_keyframe
        bucket = math.floor((pts_ms - self.origin_ms + TOLERANCE_MS) * self.rate / 1000)
        if bucket <= self._taken:
            return False
        self._taken = bucket
        return True


def sample_indices(
    pts_ms: npt.NDArray[np.float64], fps: float | None, after_ms: float | None = None
) -> npt.NDArray[np.int64]:
    """Return the positions of the frames that a `Sampler` starting at the first one takes.

    `pts_ms` is float64 [N], ascending; the result is int64 [M], ascending, M <= N. With
    `after_ms`, only of those that are shown later than that.
    """
    if after_ms is not None:
        chosen = sample_indices(pts_ms, fps)
        return chosen[pts_ms[chosen] > after_ms]
    if fps is None or len(pts_ms) == 0:
        return np.arange(len(pts_ms), dtype=np.int64)
    return np.flatnonzero(thinned(pts_ms, fps, float(pts_ms[0]))).astype(np.int64)


def thinned(
    pts_ms: npt.NDArray[np.float64], fps: float, origin_ms: float, before_ms: float = -math.inf
) -> npt.NDArray[np.bool_]:
    """Tell which of some frames are the first of a 1/fps, counted from `origin_ms`.

    `pts_ms` is float64 [N], ascending, and the result bool [N]; `before_ms` is the time of the
    frame before them, if there is one.
    """
    times = np.concatenate(([before_ms], pts_ms))
    bucket = np.floor((times - origin_ms + TOLERANCE_MS) * fps / 1000)
    later: npt.NDArray[np.bool_] = bucket[1:] > bucket[:-1]
    return later

"""What a decoder tells about a video, and the frames that it hands over."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the probe read from the file, before a frame is decoded."""

    container: str
    codec: str
    width: int
    """Coded width in pixels."""
    height: int
    fps: float
    """Average frames per second; only a description, never used to compute a time."""
    duration_seconds: float
    frames: int
    """Frames that the container's index promises."""


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Consecutive sampled frames of one video, in presentation order.

    `pixels` is a view into shared memory, valid until the batch is released.
    """

    pixels: npt.NDArray[np.uint8]
    """uint8 [N, H, W, 3], RGB."""
    pts_ms: npt.NDArray[np.float64]
    """float64 [N]: presentation time as the container states it, in milliseconds."""
    slab: int
    """Which shared-memory slab holds the pixels."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"pixels must be [N, H, W, 3], not {self.pixels.shape}")
        if self.pts_ms.shape != (self.pixels.shape[0],):
            raise ValueError(f"{self.pixels.shape[0]} frames but {self.pts_ms.shape} times")


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of presentation time whose frames are damaged or missing."""

    start_ms: float
    end_ms: float
    cause: str
    """`damaged` or `truncated`."""


LONG_SIDE = 256
"""Of frames for the built-in analysis, in pixels: PySceneDetect's default effective width."""


def fit(width: int, height: int, side: int = LONG_SIDE) -> tuple[int, int]:
    """Width and height of a picture within `side` pixels: even, never enlarged."""
    scale = min(1.0, side / max(width, height))
    # Enlarging an odd side by one pixel would be inventing: those are cut down.
    rounding = 0.5 if scale < 1 else 0.0
    return (
        max(2, int(width * scale / 2 + rounding) * 2),
        max(2, int(height * scale / 2 + rounding) * 2),
    )


def working_size(
    width: int, height: int, quarter_turns: int, side: int = LONG_SIDE
) -> tuple[int, int]:
    """Width and height of the upright working frame, of a picture that so many turns make upright.

    `side` is the longer one, at most.
    """
    if quarter_turns % 2:
        width, height = height, width
    return fit(width, height, side)

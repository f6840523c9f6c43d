"""Cuts persons out of frames."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

_MIN_SIDE = 8
"""In pixels: less shows nothing of a person."""
_MAX_RATIO = 8
"""Of the sides: a sliver at the border, and ruinous to a resize that keeps the ratio."""


def cut(frame: Tensor, box: npt.NDArray[np.float64]) -> Tensor | None:
    """Cut a box, shares [4] of left, top, right, bottom, out of a frame uint8 [3, H, W].

    Returns a view, uint8 [3, h, w]; None where there is too little to see.
    """
    height, width = frame.shape[1:]
    left, right = (round(float(at) * width) for at in box[[0, 2]])
    top, bottom = (round(float(at) * height) for at in box[[1, 3]])
    short, long = sorted((right - left, bottom - top))
    if short < _MIN_SIDE or long > _MAX_RATIO * short:
        return None
    return frame[:, top:bottom, left:right]

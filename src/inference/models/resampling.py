"""Resizes as Pillow does, which the models were trained with, in whole numbers.

The algorithm is that of Pillow's `Resample.c`
(https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c): a filter as wide as
the reduction, first over the width, then the height, each time to whole levels. What
`torch.nn.functional.interpolate` does with antialiasing is close to it, but up to 19 levels away.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""
_BITS = 22
"""Pillow's weights are whole parts of a power of two: 255 times their sum is within int32."""
_SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}


def resize(picture: Tensor, height: int, width: int, name: str) -> Tensor:
    """Resize uint8 [..., H, W] to float32 [..., height, width] of whole levels, 0..255."""
    across = _along(picture, -1, width, name)
    return _along(across, -2, height, name).to(torch.float32)


def _along(pixels: Tensor, dimension: int, target: int, name: str) -> Tensor:
    """Resize one dimension of whole levels to int32, one tap of the filter for all at a time."""
    places, weights = _taps(pixels.shape[dimension], target, name, pixels.device)
    # With it in front, all that has one place there lies together and is copied as one.
    rows = pixels.movedim(dimension, 0).contiguous().to(torch.int32)
    shape = [target] + [1] * (rows.ndim - 1)
    total: Tensor | int = 1 << (_BITS - 1)
    for at, weight in zip(places, weights, strict=True):
        total = rows.index_select(0, at).mul_(weight.view(shape)).add_(total)
    return torch.as_tensor(total).bitwise_right_shift_(_BITS).clamp_(0, 255).movedim(0, dimension)


@lru_cache(maxsize=512)
def _taps(size: int, target: int, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which of `size` pixels count in each of `target`, and what: int64, int32 [taps, target]."""
    scale = size / target
    reduction = max(scale, 1.0)
    support = _SUPPORTS[name] * reduction
    centre = (np.arange(target) + 0.5) * scale
    first = np.trunc(np.maximum(centre - support + 0.5, 0)).astype(np.int64)
    last = np.trunc(np.minimum(centre + support + 0.5, size)).astype(np.int64)
    at = first + np.arange((last - first).max())[:, None]
    weights = np.where(at < last, _filter(name, (at - centre + 0.5) / reduction), 0.0)
    weights /= weights.sum(0)
    whole = np.trunc(weights * (1 << _BITS) + np.copysign(0.5, weights)).astype(np.int32)
    places = torch.from_numpy(np.minimum(at, size - 1))
    return places.to(device), torch.from_numpy(whole).to(device)


def _filter(name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = np.abs(x)
    if name == "bilinear":
        return np.maximum(1 - x, 0)
    if name == "lanczos":
        return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))

"""Resizes as Pillow does, which the models were trained with, as two matrix products.

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
_ONE = 1 << 22
"""Pillow's weights are whole parts of it, which float64 adds up without an error."""
_SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}


def resize(picture: Tensor, height: int, width: int, name: str) -> Tensor:
    """Resize uint8 [..., H, W] to float32 [..., height, width] of whole levels, 0..255."""
    pixels = picture.to(torch.float64)
    across = _weights(picture.shape[-1], width, name, pixels.device)
    down = _weights(picture.shape[-2], height, name, pixels.device)
    return _whole(down @ _whole(pixels @ across.T)).to(torch.float32)


def _whole(pixels: Tensor) -> Tensor:
    return ((pixels + _ONE // 2) / _ONE).floor_().clamp_(0, 255)


@lru_cache(maxsize=64)
def _weights(size: int, target: int, name: str, device: torch.device) -> Tensor:
    """What each of `size` pixels counts in each of `target`, of `_ONE`: float64 [target, size]."""
    scale = size / target
    reduction = max(scale, 1.0)
    support = _SUPPORTS[name] * reduction
    centre = (np.arange(target)[:, None] + 0.5) * scale
    at = np.arange(size)[None]
    inside = (at >= np.trunc(centre - support + 0.5)) & (at < np.trunc(centre + support + 0.5))
    weights = np.where(inside, _filter(name, (at - centre + 0.5) / reduction), 0.0)
    weights /= weights.sum(1, keepdims=True)
    return torch.from_numpy(np.trunc(weights * _ONE + np.copysign(0.5, weights))).to(device)


def _filter(name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = np.abs(x)
    if name == "bilinear":
        return np.maximum(1 - x, 0)
    if name == "lanczos":
        return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))

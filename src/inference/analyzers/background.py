"""Motion: how much of a picture left its running mean, with changes of the light taken out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inference.carry import BLOCK

DEVIATION = 10.0
"""Luma levels (of 219) by which a block must leave the mean to count as moving."""
STILL = 2.0
"""Luma levels within which a block has not changed since the frame before."""
SLOW_MS, FAST_MS = 500.0, 60.0
"""Time constants of the mean where the picture changes, and where it stands still again."""
NEW_PICTURE_AREA = 0.8
"""Share of moving blocks from which a frame is another picture, unless that goes on and on."""
MAX_NEW_PICTURES = 2
"""Frames in a row that may be new pictures (a flash is two); after these it is a moving camera."""


@dataclass(slots=True)
class Background:
    """What a video's next frame is compared with: float32 [h, w] blocks of luma."""

    mean: Tensor
    previous: Tensor
    pts_ms: float
    new_pictures: Tensor
    """int64 scalar: how many of the last frames, in a row, were new pictures."""


def start(blocks: Tensor, pts_ms: float) -> Background:
    """The background that a video's first frame (float32 [h, w]) is."""
    none = torch.zeros((), dtype=torch.int64, device=blocks.device)
    return Background(blocks, blocks, pts_ms, none)


def blocks_of(luma: Tensor) -> Tensor:
    """Average luma (float32 [N, H, W]) over blocks: float32 [N, H / 4, W / 4].

    Camera noise falls to a quarter by that.
    """
    side = min(BLOCK, luma.shape[-2], luma.shape[-1])
    return functional.avg_pool2d(luma.unsqueeze(1), side).squeeze(1)


def observe(background: Background, blocks: Tensor, pts_ms: float, *, cut: bool) -> Tensor:
    """Compare one frame (float32 [h, w]) with the mean and take it in.

    Returns the share of moving blocks, a float32 scalar tensor 0..1. The mean follows a block
    slowly while it changes, so that what moves stands out, and fast once it stands still, so that
    motion ends when it ends. A new picture (`cut`, or nearly everything moved) is the new mean.
    """
    gain, offset = _light(background.mean, blocks)
    expected = background.mean * gain + offset
    still = (blocks - background.previous).abs() <= STILL
    residual = blocks - expected
    area = (residual.abs() > DEVIATION).float().mean()

    # No branch on the device's numbers: reading one back would stall a GPU at every frame.
    other = (area > NEW_PICTURE_AREA) | cut
    fresh = other & (background.new_pictures < MAX_NEW_PICTURES)
    elapsed = max(pts_ms - background.pts_ms, 0.0)
    slow, fast = (1 - math.exp(-elapsed / constant) for constant in (SLOW_MS, FAST_MS))
    rate = torch.maximum(still.float() * (fast - slow) + slow, fresh.float())
    background.mean = expected + rate * residual
    background.previous = blocks
    background.pts_ms = pts_ms
    background.new_pictures = (background.new_pictures + 1) * other
    return area * ~fresh


def _light(mean: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """The gain and offset that explain the frame best, fitted again without what they do not."""
    everything = torch.ones_like(mean)
    gain, offset = _fit(mean, blocks, everything)
    explained = ((blocks - (mean * gain + offset)).abs() <= DEVIATION).float()
    return _fit(mean, blocks, explained)


def _fit(mean: Tensor, blocks: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares, drawn to a gain of 1 where the picture has too little contrast."""
    total = weight.sum().clamp(min=1)
    center, level = (mean * weight).sum() / total, (blocks * weight).sum() / total
    spread = (mean - center) * weight
    variance = (spread * (mean - center)).sum() / total
    covariance = (spread * (blocks - level)).sum() / total
    contrast = 25.0
    gain = ((covariance + contrast) / (variance + contrast)).clamp(0.25, 4.0)
    return gain, level - gain * center

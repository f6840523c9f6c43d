"""The weight-free embedding `dct-hog-v1`: what a frame looks like, as a unit vector of 256."""

import functools
import math

import torch
from torch import Tensor

from inference.features import DESCRIPTOR_SIZE

LUMA_SHAPE, CHROMA_SHAPE = (9, 7), (8, 4)
"""Vertical and horizontal frequencies kept; of the horizontal ones only the even, see below."""
GRID = 64
CELLS = 4
BINS = 8
LUMA_WEIGHT, EDGE_WEIGHT, CHROMA_WEIGHT, CONSTANT = 1.0, 1.0, 0.7, 0.02


def describe(planes: Tensor) -> Tensor:
    """Describe one frame: float32 [3, H, W] RGB, 0..255, to float32 [256] of length 1.

    63 luma DCT coefficients, 128 root-HOG values, 2 x 32 chroma DCT coefficients and a constant.
    Each is the mean over the frame and its mirror image: that cancels the odd horizontal
    frequencies, so only even ones are computed, and it makes the right half of the HOG cells
    repeat the left. The constant gives a frame without any feature (all black) a direction.
    """
    red, green, blue = planes.unbind(0)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    chroma_blue, chroma_red = blue / 255 - luma, red / 255 - luma
    root = luma.sqrt()
    parts = (
        LUMA_WEIGHT * _unit(_rooted_dct(root, LUMA_SHAPE)),
        EDGE_WEIGHT * _edges(root),
        CHROMA_WEIGHT
        * _unit(
            torch.cat([_rooted_dct(plane, CHROMA_SHAPE) for plane in (chroma_blue, chroma_red)])
        ),
        torch.full((1,), CONSTANT, device=planes.device),
    )
    vector = torch.cat(parts)
    if vector.shape[0] != DESCRIPTOR_SIZE:
        raise ValueError(f"{vector.shape[0]} values, not {DESCRIPTOR_SIZE}")
    return vector.div(vector.norm())


def _unit(values: Tensor) -> Tensor:
    """To length 1; what is next to nothing stays so instead of becoming amplified noise."""
    return values.div(values.norm().clamp(min=0.05))


def _rooted_dct(plane: Tensor, shape: tuple[int, int]) -> Tensor:
    """The lowest DCT coefficients, each replaced by its square root with its sign kept."""
    rows = _dct_rows(plane.shape[0], shape[0], 1, plane.device)
    columns = _dct_rows(plane.shape[1], shape[1], 2, plane.device)
    coefficients = rows @ plane @ columns.T
    return (coefficients.sign() * coefficients.abs().sqrt()).flatten()


def _edges(plane: Tensor) -> Tensor:
    """Root-HOG (Dalal and Triggs 2005; Arandjelovic and Zisserman 2012), folded left to right."""
    small = (
        _mean_rows(plane.shape[0], plane.device)
        @ plane
        @ _mean_rows(plane.shape[1], plane.device).T
    )
    down = small[2:, 1:-1] - small[:-2, 1:-1]
    right = small[1:-1, 2:] - small[1:-1, :-2]
    strength = (down.square() + right.square()).sqrt()
    # Bin k holds directions around (k + 1/2) * pi / 8; the mirror image swaps k and 7 - k.
    position = torch.atan2(down, right).remainder(math.pi) * (BINS / math.pi) - 0.5
    bins = torch.arange(BINS, device=plane.device).view(-1, 1, 1)
    away = (position - bins).abs()
    share = torch.maximum(1 - away, away - (BINS - 1)).clamp(min=0) * strength
    share = torch.nn.functional.pad(share, (1, 1, 1, 1))
    cells = share.view(BINS, CELLS, GRID // CELLS, 2 * CELLS, GRID // (2 * CELLS)).sum((2, 4))
    histogram = (cells / cells.sum().clamp(min=1.0)).sqrt()
    return (histogram[:, :, :CELLS] + histogram.flip(0, 2)[:, :, :CELLS]).flatten() / 2


@functools.lru_cache(maxsize=64)
def _dct_rows(size: int, count: int, step: int, device: torch.device) -> Tensor:
    """Rows 0, step, 2 step, ... of a DCT-II that gives means: float32 [count, size]."""
    frequency = torch.arange(count, dtype=torch.float64).mul(step).view(-1, 1)
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * (math.pi / size)
    return ((frequency * place).cos() / size).to(device, torch.float32)


@functools.lru_cache(maxsize=64)
def _mean_rows(size: int, device: torch.device) -> Tensor:
    """Area averaging from `size` samples to 64: float32 [64, size], rows add up to 1."""
    edges = torch.arange(GRID + 1, dtype=torch.float64) * (size / GRID)
    place = torch.arange(size, dtype=torch.float64)
    start, end = edges[:-1].view(-1, 1), edges[1:].view(-1, 1)
    overlap = (torch.minimum(end, place + 1) - torch.maximum(start, place)).clamp(min=0)
    return (overlap * (GRID / size)).to(device, torch.float32)

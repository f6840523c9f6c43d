"""Pixels to luma and to hue, saturation, value: whole numbers, so that every device agrees."""

import functools

import torch
from torch import Tensor


def planes_of(pixels: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] to uint8 [N, 3, H, W], contiguous."""
    return pixels.permute(0, 3, 1, 2).contiguous()


def luma_of(planes: Tensor) -> Tensor:
    """BT.601 luma in video range: uint8 [N, 3, H, W] RGB to whole float32 [N, H, W], 16..235.

    The 15-bit coefficients and the rounding are those of FFmpeg's libswscale (rgb24 to yuv444p),
    because blackdetect's thresholds are defined on its output. All sums stay below 2**24, where
    float32 holds every whole number, so nothing is rounded before the end.
    """
    red, green, blue = planes.to(torch.float32).unbind(1)
    luma = red * 8414
    luma.add_(green, alpha=16519).add_(blue, alpha=3208)
    return luma.add_(16384).mul_(1 / 32768).floor_().add_(16)


def hsv_of(planes: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] RGB to uint8 [N, 3, H, W]: hue 0..179, saturation and value 0..255.

    The same numbers as OpenCV's 8-bit `cvtColor(COLOR_RGB2HSV)`.
    """
    red, green, blue = planes.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # Masks as numbers: on a CPU, multiplying int16 is many times cheaper than torch.where.
    is_red, is_green = (value == red).to(torch.int16), (value == green).to(torch.int16)

    red, green, blue, span = (each.to(torch.int16) for each in (red, green, blue, chroma))
    from_blue = (red - green).add_(span, alpha=4)
    from_green = (blue - red).add_(span, alpha=2)
    sector = from_green.sub_(from_blue).mul_(is_green).add_(from_blue)
    sector = (green - blue).sub_(sector).mul_(is_red).add_(sector)

    hues, saturations = _tables(planes.device)
    hue = span.to(torch.int32).mul_(1536).add_(sector).add_(256)
    saturation = value.to(torch.int32).mul_(256).add_(chroma)
    return torch.stack((_look_up(hues, hue), _look_up(saturations, saturation), value), 1)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).view(index.shape)


@functools.lru_cache(maxsize=4)
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """OpenCV's fixed-point arithmetic, for all inputs: uint8 [256 * 1536] and [256 * 256].

    OpenCV rounds 30 * 4096 / chroma and 255 * 4096 / value to whole numbers, and the products of
    these with the sector (-256..1279 here) and the chroma at 12 bits.
    """
    divisor = torch.arange(256, dtype=torch.float64).clamp(min=1).view(-1, 1)
    sector = torch.arange(-256, 1280)
    hue = (sector * (30 * 4096 / divisor).round() + 2048).div(4096).floor()
    hue = hue + 180 * (hue < 0)
    saturation = (torch.arange(256) * (255 * 4096 / divisor).round() + 2048).div(4096).floor()
    # The clamp only meets inputs that no pixel has, such as a chroma above the value.
    return (
        hue.clamp(0, 255).to(device, torch.uint8).flatten(),
        saturation.clamp(0, 255).to(device, torch.uint8).flatten(),
    )

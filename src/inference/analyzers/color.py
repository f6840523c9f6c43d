"""Pixels to luma and to hue, saturation, value: integers throughout, so every device agrees.

float32 only carries the integers: no intermediate reaches 2**24, so nothing is ever rounded.
"""

import torch
from torch import Tensor


def planes_of(pixels: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W], contiguous; values stay 0..255."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def luma_of(planes: Tensor) -> Tensor:
    """BT.601 luma in video range: float32 [N, 3, H, W] RGB to whole float32 [N, H, W], 16..235.

    The 15-bit coefficients and the rounding are those of FFmpeg's libswscale (rgb24 to yuv444p),
    because blackdetect's thresholds are defined on its output.
    """
    red, green, blue = planes.unbind(1)
    luma = red * 8414
    luma.add_(green, alpha=16519).add_(blue, alpha=3208)
    return luma.add_(16384).mul_(1 / 32768).floor_().add_(16)


def hsv_of(planes: Tensor) -> Tensor:
    """float32 [N, 3, H, W] RGB to uint8 [N, 3, H, W]: hue 0..179, saturation and value 0..255.

    The fixed-point arithmetic of OpenCV's 8-bit `cvtColor(COLOR_RGB2HSV)`: its tables hold
    round(255 * 4096 / value) and round(30 * 4096 / chroma), its products are rounded at 12 bits.
    """
    small = planes.to(torch.int16)
    red, green, blue = small.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)

    # Masks as numbers: multiplying int16 is many times cheaper than torch.where on a CPU.
    is_red = (value == red).to(torch.int16)
    is_green = (value == green).to(torch.int16)
    from_blue = red - green + 4 * chroma
    from_green = blue - red + 2 * chroma
    other = from_blue + is_green * (from_green - from_blue)
    sector = other + is_red * (green - blue - other)

    chroma_ = chroma.to(torch.float32)
    hue = _scaled(sector.to(torch.float32), 30 * 4096, chroma_)
    hue.add_(hue.lt(0).to(torch.float32), alpha=180)
    saturation = _scaled(chroma_, 255 * 4096, value.to(torch.float32))
    return torch.stack((hue.to(torch.uint8), saturation.to(torch.uint8), value.to(torch.uint8)), 1)


def _scaled(amount: Tensor, scale: int, divisor: Tensor) -> Tensor:
    """floor(amount * round(scale / divisor) / 4096 + 1/2); a zero divisor has a zero amount."""
    table = torch.full_like(divisor, scale).div_(divisor.clamp(min=1)).round_()
    return table.mul_(amount).add_(2048).mul_(1 / 4096).floor_()

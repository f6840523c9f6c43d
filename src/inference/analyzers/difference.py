"""How much two pictures differ: whole sums of absolute differences, exact on every device."""

import torch
from torch import Tensor


def absolute_difference(left: Tensor, right: Tensor) -> Tensor:
    """Sum of |left - right| over the picture: uint8 [..., H, W] to int64 [...]."""
    distance = torch.maximum(left, right) - torch.minimum(left, right)
    # int32 per row is the fast reduction; rows are short, so it cannot overflow.
    return distance.sum(-1, dtype=torch.int32).sum(-1)


def consecutive_difference(previous: Tensor | None, frames: Tensor) -> Tensor:
    """Difference of each frame to the one before: uint8 [N, ..., H, W] to int64 [N, ...].

    `previous` (uint8 [1, ..., H, W]) comes before the first frame; without it the first is 0.
    """
    first = frames[:1] if previous is None else previous
    return torch.cat(
        (
            absolute_difference(first, frames[:1]),
            absolute_difference(frames[:-1], frames[1:]),
        )
    )

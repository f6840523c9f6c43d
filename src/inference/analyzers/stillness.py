"""The freeze reference: which earlier frame each frame is compared with, and how far it is.

Source: FFmpeg's freezedetect compares with the last frame that was not frozen, so a slow drift
adds up until it shows. Comparing each frame with its predecessor would never see it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from inference.analyzers.difference import absolute_difference

NOISE = 0.001
"""Mean absolute difference, as a share of 256 levels, up to which a frame is frozen."""


@dataclass(frozen=True, slots=True)
class Stillness:
    """What `compare` found on N frames, and the reference for the frames after them."""

    difference: npt.NDArray[np.float64]
    """float64 [N], 0..1; 1 for a video's first frame."""
    frozen: npt.NDArray[np.bool_]
    reference: Tensor
    """uint8 [1, 3, H, W]."""


def compare(
    reference: Tensor | None, consecutive: npt.NDArray[np.int64], frames: Tensor
) -> Stillness:
    """Compare frames (uint8 [N, 3, H, W]) with the reference as it moves along.

    `consecutive` (int64 [N]) is each frame's absolute difference to the one before. While nothing
    is frozen the reference is the frame before, so these are the answers already. Only behind a
    frozen frame are frames compared again, in runs that double while the freeze lasts: the whole
    costs at most a few comparisons a frame, whatever the video does.
    """
    count, size = len(frames), frames[0].numel() * 256
    difference = np.ones(count)
    frozen = np.zeros(count, dtype=np.bool_)
    at = 0
    if reference is None:
        reference, at = frames[:1], 1
        adjacent = True
    else:
        adjacent = False
    run = 1
    while at < count:
        if adjacent:
            sums = consecutive[at : at + 1]
        else:
            sums = absolute_difference(reference, frames[at : at + run]).sum(1).cpu().numpy()
        shares = sums / size
        still = shares <= NOISE
        taken = len(still) if still.all() else int(still.argmin()) + 1
        difference[at : at + taken] = shares[:taken]
        frozen[at : at + taken] = still[:taken]
        at += taken
        adjacent = not frozen[at - 1]
        if adjacent:
            reference, run = frames[at - 1 : at], 1
        else:
            run *= 2
    return Stillness(difference, frozen, reference)

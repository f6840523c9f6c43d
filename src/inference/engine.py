"""Measures frames on the device: pixels in, `FrameFeatures` out."""

import math
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from inference.analyzers import background, color, stillness
from inference.analyzers.background import Background
from inference.analyzers.descriptor import describe
from inference.analyzers.difference import consecutive_difference
from inference.features import DESCRIPTOR_SIZE, FrameFeatures
from inference.feed import Brought, Feed
from inference.frames import LONG_SIDE, fit
from inference.models.batches import BatchSize, spared
from inference.wire import Arrays

_CUDA: Any = torch.cuda  # its streams are untyped
BLACK_LUMA = 37
"""blackdetect's pix_th 0.10 in video range: 16 + 0.10 * 219, whole part."""
CUT_SCORE = 15.0
"""The lowest content score at which a detector may cut: each such frame gets a descriptor."""
NEW_PICTURE_SCORE = 27.0
"""Content score from which motion takes a frame for another picture: ContentDetector's cut."""


@dataclass(slots=True)
class Carry:
    """All that one video's next frame depends on, on the device; nothing is shared with others."""

    planes: Tensor | None = None
    """uint8 [1, 3, H, W]: the frame before."""
    hsv: Tensor | None = None
    """uint8 [1, 3, H, W]: the same frame's hue, saturation, value."""
    reference: Tensor | None = None
    """uint8 [1, 3, H, W]: the freeze reference."""
    background: Background | None = None
    second: int | None = None
    """The whole second of the frame before."""

    def copy(self) -> Self:
        """One that goes its own way; no tensor is ever written to."""
        seen = self.background
        return replace(self, background=None if seen is None else replace(seen))

    def become(self, other: Self) -> None:
        """Take the state of another."""
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for a checkpoint; nothing before the first frame."""
        arrays = {
            name: tensor.cpu().numpy()
            for name in _TENSORS
            if (tensor := getattr(self, name)) is not None
        }
        if (seen := self.background) is not None:
            arrays |= {
                "background_mean": seen.mean.cpu().numpy(),
                "background_previous": seen.previous.cpu().numpy(),
                "background_new_pictures": seen.new_pictures.cpu().numpy(),
                "background_pts_ms": np.array(seen.pts_ms),
            }
        if self.second is not None:
            arrays["second"] = np.array(self.second)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays, device: torch.device) -> Self:
        """The inverse of `to_arrays`."""
        tensors = {
            name: torch.from_numpy(array.copy()).to(device)
            for name, array in arrays.items()
            if name not in {"second", "background_pts_ms"}
        }
        carry = cls(tensors.get("planes"), tensors.get("hsv"), tensors.get("reference"))
        if "background_mean" in arrays:
            carry.background = Background(
                tensors["background_mean"],
                tensors["background_previous"],
                float(arrays["background_pts_ms"]),
                tensors["background_new_pictures"],
            )
        if "second" in arrays:
            carry.second = int(arrays["second"])
        return carry


_TENSORS = ("planes", "hsv", "reference")


class Engine:
    """The built-in analysis on one device; the results are the same whatever the batches are."""

    def __init__(self, device: str) -> None:
        """`device` is `auto`, `cpu` or `cuda`; raises RuntimeError if CUDA is asked and absent."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("no CUDA device")
        # On a CPU the working set of a few frames stays in the cache: faster than a whole batch.
        self._chunk = BatchSize(4 if self.device.type == "cpu" else 64)
        self.feed = Feed(self.device)
        # Beside what models compute, and before it: many small steps, each of them soon done.
        self._stream = _CUDA.Stream(self.device, priority=-1) if self.device.type != "cpu" else None

    def warm(self) -> None:
        """Measure something, so that a device which cannot compute fails before it gets a video."""
        count = self._chunk.number
        frames = np.zeros((count, 144, LONG_SIDE, 3), np.uint8)
        self.features(self.open(), frames, np.arange(count, dtype=np.float64))

    def open(self, carry: Arrays | None = None) -> Carry:
        """The state before a video's first frame, or before the one that `carry` was kept for."""
        with _CUDA.stream(self._stream):
            return Carry.from_arrays(carry or {}, self.device)

    def keep(self, carry: Carry) -> Arrays:
        """What `open` takes, for another process or another day."""
        with _CUDA.stream(self._stream):
            return carry.to_arrays()

    def features(
        self, carry: Carry, pixels: npt.NDArray[np.uint8], pts_ms: npt.NDArray[np.float64]
    ) -> FrameFeatures:
        """Measure N > 0 consecutive frames of one video and move its carry past them.

        `pixels` is uint8 [N, H, W, 3] RGB and may be overwritten after the call; `pts_ms` is
        float64 [N], milliseconds. Frames that were made larger for the models of a bundle are
        measured at the size that they have without one. Raises ValueError if there is no frame,
        or the picture changes its size.
        """
        return self.measure(carry, self.feed.bring(pixels), pts_ms)

    def measure(
        self, carry: Carry, brought: Brought, pts_ms: npt.NDArray[np.float64]
    ) -> FrameFeatures:
        """Do the same with frames that are brought to the device.

        What does not fit into memory is done in smaller pieces from then on.
        """
        if not len(pts_ms):
            raise ValueError("no frames")
        height, width = brought.pixels.shape[1:3]
        if max(height, width) > LONG_SIDE:
            width, height = fit(width, height)
        if carry.hsv is not None and carry.hsv.shape[2:] != (height, width):
            raise ValueError(
                f"the size changed from {tuple(carry.hsv.shape[2:])} to {(height, width)}"
            )
        with torch.inference_mode(), _CUDA.stream(self._stream):
            frames = brought.arrive()
            parts, done = list[FrameFeatures](), 0
            while done < len(pts_ms):
                step = partial(self._step, carry, frames[done:], pts_ms[done:], (height, width))
                part, after = spared(step, self._chunk, self.device)
                carry.become(after)
                parts.append(part)
                done += len(part.content_score)
        return FrameFeatures.join(parts)

    def _step(
        self, carry: Carry, frames: Tensor, pts_ms: npt.NDArray[np.float64], size: tuple[int, int]
    ) -> tuple[FrameFeatures, Carry]:
        """Measure the first of these frames, and tell the carry behind them."""
        count, after = self._chunk.number, carry.copy()
        part = self._measure(after, _shrink(frames[:count], *size), pts_ms[:count])
        return part, after

    def _measure(
        self, carry: Carry, pixels: Tensor, pts_ms: npt.NDArray[np.float64]
    ) -> FrameFeatures:
        planes = color.planes_of(pixels)
        hsv = color.hsv_of(planes)
        luma = color.luma_of(planes)
        score = _content_score(consecutive_difference(carry.hsv, hsv), luma[0].numel())
        changed = consecutive_difference(carry.planes, planes).sum(1).cpu().numpy()
        still = stillness.compare(carry.reference, changed, planes)
        black = (
            (luma <= BLACK_LUMA).view(torch.uint8).sum(2, dtype=torch.int32).sum(1).cpu().numpy()
        )
        area = _motion_area(carry, luma, pts_ms, score)
        described = _described(carry, pts_ms, score)
        descriptor = np.zeros((len(pixels), DESCRIPTOR_SIZE), np.float32)
        for at in np.flatnonzero(described):
            descriptor[at] = describe(planes[at].to(torch.float32)).cpu().numpy()
        # Cloned: the caller's buffer is reused, and a view would keep the whole chunk alive.
        carry.planes, carry.hsv = planes[-1:].clone(), hsv[-1:].clone()
        carry.reference = still.reference.clone()
        return FrameFeatures(
            content_score=score,
            black_ratio=black / luma[0].numel(),
            freeze_difference=still.difference,
            frozen=still.frozen,
            motion_area=area,
            described=described,
            descriptor=descriptor,
        )


def _shrink(frames: Tensor, height: int, width: int) -> Tensor:
    """uint8 [N, H, W, 3] to uint8 [N, height, width, 3]; the same where it has that size."""
    if frames.shape[1:3] == (height, width):
        return frames
    pixels = frames.permute(0, 3, 1, 2).to(torch.float32)
    shrunk = interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return shrunk.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _content_score(sums: Tensor, size: int) -> npt.NDArray[np.float64]:
    """Mean over hue, saturation and value, added up in PySceneDetect's order: the same bits."""
    hue, saturation, value = (sums.cpu().numpy() / size).T
    score: npt.NDArray[np.float64] = (hue + saturation + value) / 3.0
    return score


def _motion_area(
    carry: Carry,
    luma: Tensor,
    pts_ms: npt.NDArray[np.float64],
    score: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    areas = []
    for blocks, pts, content in zip(background.blocks_of(luma), pts_ms, score, strict=True):
        if carry.background is None:
            carry.background = background.start(blocks, float(pts))
        cut = bool(content >= NEW_PICTURE_SCORE)
        areas.append(background.observe(carry.background, blocks, float(pts), cut=cut))
    return torch.stack(areas).cpu().numpy().astype(np.float64)


def _described(
    carry: Carry, pts_ms: npt.NDArray[np.float64], score: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """The first frame of each second, and each frame that may turn out to open a shot."""
    described = score >= CUT_SCORE
    for at, pts in enumerate(pts_ms):
        second = math.floor(pts / 1000)
        if second != carry.second:
            described[at] = True
        carry.second = second
    return described

"""What all ways to get frames out of a file share, and the first of them, decord.

The others are `sparse`, which leaves out what is not needed, `keyframes`, which leaves out all
else, and `tolerant`, which tells damage from what is sound. All yield frames in presentation order,
upright, RGB, scaled by the same FFmpeg filter (bicubic), so that a file may be begun with one and
finished with another.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.frames import LONG_SIDE, Gap
from inference.probe import Probe
from inference.sampling import Fixed, sample_indices

_CHUNK_FRAMES = 128
"""Source frames that decord may pass in one call: between calls the decoder shows it is alive."""
_CHUNK_BYTES = _CHUNK_FRAMES * LONG_SIDE**2 * 3
"""Of pictures that it may hand over in one call, which holds them several times."""
_SILENT_FRAMES = 1000
"""Frames that decord may decode without a word, on its way to the first one wanted."""
_LOG_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Sampled:
    """A frame to analyse."""

    pts_ms: float
    pixels: npt.NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""


@dataclass(frozen=True, slots=True)
class Passed:
    """So many more source frames are decoded or passed over; 0 only shows that work goes on."""

    frames: int


Item = Sampled | Passed | Gap


class DamageError(Exception):
    """decord or the sparse backend met something that it would hide or stop at."""


@dataclass(slots=True)
class ErrorLog:
    """Notices that FFmpeg wrote an error to stderr, which must be a file opened for appending.

    decord repeats the last good frame where one cannot be decoded and says so nowhere else.
    """

    _seen: int = field(default_factory=lambda: os.fstat(2).st_size)

    def grew(self) -> bool:
        """Tell whether anything was written since the last call."""
        size = os.fstat(2).st_size
        grew, self._seen = size != self._seen, size
        if size > _LOG_BYTES:  # a hostile file can cause errors without end
            os.ftruncate(2, 0)
            self._seen = 0
        return grew


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames of a file are wanted."""

    sample_fps: Fixed
    after_ms: float | None
    """Only those behind this one; None: from the start."""
    chosen: npt.NDArray[np.int64] | None = None
    """Positions of the frames that `sample_fps` alone does not decide on; None: it does."""

    def indices(self, probe: Probe) -> npt.NDArray[np.int64]:
        """Choose from all frames that the probe found; return their positions, int64 [M]."""
        pts_ms = probe.times_ms()
        if self.chosen is not None:
            return self.chosen[self.chosen >= self.passed(pts_ms)]
        if self.sample_fps != "keyframes":
            return sample_indices(pts_ms, self.sample_fps, self.after_ms)
        chosen = np.isin(probe.pts, probe.keyframes)
        chosen[:1] = True
        chosen[: self.passed(pts_ms)] = False
        return np.flatnonzero(chosen).astype(np.int64)

    def passed(self, pts_ms: npt.NDArray[np.float64]) -> int:
        """Count the frames up to the one to go on behind."""
        if self.after_ms is None:
            return 0
        return int(np.searchsorted(pts_ms, self.after_ms, side="right"))


def import_decord() -> Any:
    """Import decord late, which costs time and memory, and without the CUDA that lies beside torch.

    It would map all of those libraries, gigabytes of the address space that a decoder may have.
    """
    if "decord" not in sys.modules:
        sys.modules["nvidia"] = None  # type: ignore[assignment] # import takes it for not there
        try:
            import_module("decord")
        finally:
            del sys.modules["nvidia"]
    return sys.modules["decord"]


def read_with_decord(
    path: Path, probe: Probe, selection: Selection, *, threads: int, log: ErrorLog
) -> Iterator[Item]:
    """Yield the selected frames of an intact file.

    Raises:
        DamageError: the file is not intact, or decord sees other frames than the probe. What was
            yielded before is good.
    """
    decord = import_decord()
    width, height = probe.frame_size()
    try:
        reader = decord.VideoReader(
            str(path), ctx=decord.cpu(0), width=width, height=height, num_threads=threads
        )
    except (RuntimeError, decord.DECORDError) as error:
        raise DamageError("decord cannot open the file") from error
    if len(reader) != len(probe.pts):
        raise DamageError(f"decord counts {len(reader)} frames, the probe {len(probe.pts)}")
    pts_ms = probe.times_ms()
    if probe.first_picture is None or not np.array_equal(
        _read_batch(reader, [0], log), probe.first_picture[None]
    ):
        raise DamageError("decord begins with another picture")
    passed = selection.passed(pts_ms)
    if _frames_from_keyframe(probe, passed) > _SILENT_FRAMES:
        raise DamageError("decord would be silent for too long on the way there")
    for chunk in chunks(selection.indices(probe), _CHUNK_BYTES // (width * height * 3)):
        pixels = _read_batch(reader, chunk.tolist(), log)
        # For some widths, 144 among them, decord pads its rows and miscounts the channels.
        if pixels.shape[1:] != (height, width, 3):
            raise DamageError("decord gives frames of another size")
        for index, frame in zip(chunk, pixels, strict=True):
            yield Sampled(float(pts_ms[index]), frame)
        yield Passed(int(chunk[-1]) + 1 - passed)
        passed = int(chunk[-1]) + 1
    yield Passed(len(pts_ms) - passed)


def _frames_from_keyframe(probe: Probe, position: int) -> int:
    """Count the frames that lead to one from the keyframe before it."""
    if not position:
        return 0
    before = int(np.searchsorted(probe.keyframes, probe.pts[position - 1], side="right")) - 1
    return position - int(np.searchsorted(probe.pts, probe.keyframes[max(before, 0)]))


def _read_batch(reader: Any, indices: list[int], log: ErrorLog) -> npt.NDArray[np.uint8]:
    decord = import_decord()
    try:
        pixels: npt.NDArray[np.uint8] = reader.get_batch(indices).asnumpy()
    except (RuntimeError, decord.DECORDError) as error:
        raise DamageError("decord cannot decode on") from error
    if log.grew():
        raise DamageError("errors while decoding")
    return pixels


def chunks(indices: npt.NDArray[np.int64], most: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut into runs of at most so many, over few source frames; a lone index is its own run."""
    start = 0
    while start < len(indices):
        stop = int(np.searchsorted(indices, indices[start] + _CHUNK_FRAMES))
        stop = min(stop, start + most)
        yield indices[start:stop]
        start = stop

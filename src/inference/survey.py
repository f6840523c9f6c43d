"""Looks at the keyframes of a file to choose, for `auto`, which of its frames to analyse."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.backends import DamageError, ErrorLog, Sampled, Selection
from inference.carry import BLOCK
from inference.frames import LONG_SIDE
from inference.keyframes import read_keyframes, stand_alone
from inference.probe import Probe
from inference.quiet import LEAST_GROUPS, Flags, Groups, find_loud, find_quiet
from inference.sampling import AUTO_FPS, sample_indices

_WINDOW_SECONDS = 0.5
"""The shortest motion."""
_LONGEST_SECONDS = 60.0
"""Of a group; a keyframe a minute tells little, and all groups are compared in one table."""
_CHANGED = 5.0
"""Luma levels (of 219) by which a block has changed: half of those for motion."""
_BLACK_LUMA = 37

Indices = npt.NDArray[np.int64]
Look = tuple[float, float, float]
"""Mean difference of two pictures, share of changed blocks, share of black pixels."""


def survey(
    path: Path, probe: Probe, *, threads: int, log: ErrorLog, tick: Callable[[], None]
) -> Indices | None:
    """Choose all keyframes, and where a group is not quiet the frames of `AUTO_FPS` as well.

    Returns int64 [M], ascending positions among the frames of the file, or None where that rate
    is needed throughout, or its keyframes tell nothing that can be trusted. `tick` is called now
    and then. The same file has the same answer.
    """
    few = len(probe.keyframes) <= LEAST_GROUPS
    if few or not stand_alone(probe) or probe.info.fps <= AUTO_FPS:
        return None
    starts = np.searchsorted(probe.pts, probe.keyframes)
    if np.diff(starts).max() > _LONGEST_SECONDS * probe.info.fps:
        return None
    pixels, sizes = probe.info.width * probe.info.height, _measure_packets(probe, starts)
    loud = find_loud(sizes, pixels)
    if loud is None or loud.all():
        return None
    try:
        looks = np.array(list(_look(path, probe, threads, log, tick)))
    except DamageError:
        return None
    difference, moved, black = looks.T
    base = probe.time_base
    start_ms = probe.keyframes * (base.numerator * 1000) / base.denominator
    groups = Groups(start_ms, difference, moved, black, sizes)
    quiet = find_quiet(groups, loud)
    return _choose(probe, quiet) if quiet.any() else None


def _look(
    path: Path, probe: Probe, threads: int, log: ErrorLog, tick: Callable[[], None]
) -> Iterator[Look]:
    """Compare each keyframe with the next, both as small as what is built in looks at them."""
    before: tuple[npt.NDArray[np.int16], npt.NDArray[np.float64], float] | None = None
    wanted, small = Selection("keyframes", None), replace(probe, frame_side=LONG_SIDE)
    for item in read_keyframes(path, small, wanted, threads=threads, log=log):
        tick()
        if not isinstance(item, Sampled):
            continue
        pixels = item.pixels.astype(np.int16)
        luma = _luma(item.pixels)
        now = pixels, _blocks(luma), float((luma <= _BLACK_LUMA).mean())
        if before is not None:
            yield (
                float(np.abs(now[0] - before[0]).mean()),
                float((np.abs(now[1] - before[1]) > _CHANGED).mean()),
                max(now[2], before[2]),
            )
        before = now


def _luma(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Return BT.601 luma in video range, int32 [H, W], as the analysis computes it."""
    red, green, blue = np.moveaxis(pixels.astype(np.int32), 2, 0)
    luma: npt.NDArray[np.int32] = 16 + ((red * 8414 + green * 16519 + blue * 3208 + 16384) >> 15)
    return luma


def _blocks(luma: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    side = min(BLOCK, *luma.shape)
    height, width = (length // side for length in luma.shape)
    cut = luma[: height * side, : width * side]
    blocks: npt.NDArray[np.float64] = cut.reshape(height, side, width, side).mean((1, 3))
    return blocks


def _measure_packets(probe: Probe, starts: Indices) -> npt.NDArray[np.float64]:
    """Tell the mean size of the packets in each half second of each group; see `Groups.sizes`.

    `starts` are the positions of the keyframes. Windows overlap by half; what follows the last
    keyframe is left out.
    """
    step = max(1, round(_WINDOW_SECONDS * probe.info.fps / 2))
    windows = max(1, -(-int(np.diff(starts).max() - 1) // step))
    means = np.full((len(starts) - 1, windows), np.nan)
    for row, (keyframe, stop) in zip(means, pairwise(starts.tolist()), strict=True):
        sizes = probe.sizes[keyframe + 1 : stop] if stop > keyframe + 1 else np.zeros(1, np.int64)
        first = np.arange(0, len(sizes), step)
        last = np.minimum(first + 2 * step, len(sizes))
        sums = np.concatenate(([0], np.cumsum(sizes)))
        row[: len(first)] = (sums[last] - sums[first]) / (last - first)
    return means


def _choose(probe: Probe, quiet: Flags) -> Indices:
    usual = sample_indices(probe.times_ms(), AUTO_FPS)
    group = np.searchsorted(probe.keyframes, probe.pts[usual], side="right") - 1
    # Nobody knows what is behind the last keyframe.
    kept = usual[~np.append(quiet, values=False)[group]]
    return np.union1d(kept, np.searchsorted(probe.pts, probe.keyframes)).astype(np.int64)

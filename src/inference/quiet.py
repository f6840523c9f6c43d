"""Decides in which groups of pictures nothing happens, by their keyframes and their packets."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

_STILL = 1.25 * 0.001 * 256
"""Mean difference up to which two pictures may belong to one freeze, with a quarter to spare."""
_LASTS_MS = 2000.0
"""A freeze and black last that long at least."""
_MOVED = 0.002
"""Share of blocks that may have changed; half as many as where motion begins."""
_DARK = 0.9
"""Share of black pixels from which black may lie near."""
_LOUD = 1.25
_SPREADS = 4.0
_NOTHING = 1 / 16384
"""Bytes for each pixel of the picture by which packets may differ where nothing happens."""
_PERSON = 1 / 4096
"""The same, by which somebody makes them larger: 225 bytes in 720p."""
_EVEN = 0.001
"""Share of their size by which all packets differ that carry something."""
LEAST_GROUPS = 8
"""Of fewer, nobody can tell which are usual."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Groups:
    """What is known of G groups of pictures without decoding more than their keyframes."""

    start_ms: Floats
    """float64 [G + 1]: when the keyframes are shown, the one behind the last group included."""
    difference: Floats
    """float64 [G]: mean difference of its keyframe and the next, 0..255, over all samples."""
    moved: Floats
    """float64 [G]: share of the blocks that differ between these two."""
    black: Floats
    """float64 [G]: share of black pixels, of the one that has more."""
    sizes: Floats
    """float64 [G, W]: bytes of a packet, the mean in each of the windows into which groups are cut
    behind their keyframes; NaN behind the end of a group."""

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, field.name)) for field in fields(self)[1:]}
        if lengths != {len(self.start_ms) - 1}:
            raise ValueError("one value of each kind for each group")


def find_loud(sizes: Floats, pixels: int) -> Flags | None:
    """Return bool [G]: the groups with larger packets than where nothing happens.

    `sizes` are as in `Groups`, `pixels` is the size of the coded picture. None if the packets of
    the file tell nothing: noise takes more bytes than a person would, or they are filled up.
    """
    low, usual, most = _count_usual(sizes, pixels)
    exists = np.isfinite(sizes)
    known = exists.sum(0) >= LEAST_GROUPS
    is_even = (usual - low < _EVEN * usual) & (usual > _PERSON * pixels)
    if (known & ((most - usual > _PERSON * pixels) | is_even)).any():
        return None
    loud: Flags = (exists & ~((sizes <= most) & known)).any(1)
    return loud


def find_quiet(groups: Groups, loud: Flags) -> Flags:
    """Return bool [G]: the groups of which the keyframes tell enough.

    A group is quiet if nothing has changed from its keyframe to the next, its packets are not
    `loud`, and neither black nor a freeze that lasts over a keyframe can lie in it.
    """
    changed = groups.moved > _MOVED
    if changed.any() and loud[changed].mean() < 0.5:
        # What changes the picture takes no more bytes than nothing does: packets tell nothing.
        return np.zeros(len(changed), np.bool_)
    quiet: Flags = ~changed & ~loud & (groups.black < _DARK) & ~_may_freeze(groups)
    return quiet


def _count_usual(sizes: Floats, pixels: int) -> tuple[Floats, Floats, Floats]:
    """How large packets are where nothing happens, in each window: seldom less, usually, at most.

    Nothing happens in a quarter of the groups, at least. Three float64 [W].
    """
    low, usual = np.nanquantile(sizes, (0.05, 0.25), axis=0)
    spread = np.minimum(_SPREADS * (usual - low), (_LOUD - 1) * usual)
    return low, usual, usual + spread + _NOTHING * pixels


def _may_freeze(groups: Groups) -> Flags:
    """Tell where a freeze may be.

    One that lasts over two keyframes leaves them alike, and may begin and end in the groups beside
    these. A shorter one makes the packets smaller than elsewhere, and if it is not over within
    2 s, it needs the two groups around a keyframe.
    """
    alike = groups.difference <= _STILL
    beside = alike.copy()
    beside[1:] |= alike[:-1]
    beside[:-1] |= alike[1:]
    two = groups.start_ms[2:] - groups.start_ms[:-2] > _LASTS_MS
    with_next = np.append(two, values=False) | np.append([False], two)
    least = np.nanmin(groups.sizes, axis=1)
    empty = least <= np.median(least) / 2
    flags: Flags = beside | with_next & empty
    return flags

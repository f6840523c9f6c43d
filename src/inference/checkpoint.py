"""Checkpoints: what was measured of a video so far, in parts from which another run goes on.

A run is a fold over what decoder and device gave, in order. A part records a stretch of that, and
what the device remembers at its end; the fold is repeated from the record, not stored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.features import FrameFeatures
from inference.frames import Gap
from inference.wire import Arrays, pack, read_arrays, unpack_header

_SLICE_FRAMES = 256


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of a video, encoded."""

    number: int
    """Counted from 0; a part makes all with its number or a higher one obsolete."""
    position_ms: float
    """Presentation time of the last frame measured, perhaps rounded."""
    stretch: bytes
    carry: bytes | None
    """What the next frame depends on; only the last part needs it."""


class Journal(Protocol):
    """Where the parts of one video are kept."""

    async def load(self) -> Sequence[Part]:
        """Return all parts, in order."""
        ...

    async def save(self, part: Part) -> bool:
        """Keep a part; False if that was not possible now, which loses nothing but time."""
        ...


class NoJournal:
    """Keeps nothing: every run is the first."""

    async def load(self) -> Sequence[Part]:
        """Return no part."""
        return ()

    async def save(self, part: Part) -> bool:  # noqa: ARG002 # a journal's signature
        """Forget the part."""
        return True


Measured = tuple[npt.NDArray[np.float64], FrameFeatures]
"""Times (float64 [N], milliseconds) and measurements of N consecutive frames."""


@dataclass(slots=True)
class Stretch:
    """What came since the last checkpoint, in order."""

    frames: list[Measured] = field(default_factory=list)
    gaps: list[tuple[int, Gap]] = field(default_factory=list)
    """Each with the number of frames of this stretch that came before it."""
    count: int = 0
    tolerant: bool = False
    """Damage was met here or before."""

    def rest(self) -> "Stretch":
        """What a part of this stretch leaves out: the gaps behind the last frame."""
        gaps = [(0, gap) for before, gap in self.gaps if before == self.count]
        return Stretch(gaps=gaps, tolerant=self.tolerant)

    def add(self, item: Measured | Gap) -> None:
        """Take the next frames or the next gap."""
        if isinstance(item, Gap):
            self.tolerant = True
            self.gaps.append((self.count, item))
        else:
            self.frames.append(item)
            self.count += len(item[0])

    @property
    def position_ms(self) -> float:
        """Presentation time of the last frame; raises IndexError if there is none."""
        return float(self.frames[-1][0][-1])

    def items(self) -> Iterator[Measured | Gap]:
        """Give everything back in order, few frames at a time."""
        gaps = [*self.gaps, (self.count, None)]
        if self.frames:
            pts_ms = np.concatenate([times for times, _ in self.frames])
            features = FrameFeatures.join([features for _, features in self.frames])
        done = 0
        for before, gap in gaps:
            for start in range(done, before, _SLICE_FRAMES):
                stop = min(start + _SLICE_FRAMES, before)
                yield pts_ms[start:stop], features.cut(start, stop)
            done = before
            if gap is not None:
                yield gap


def write_part(
    number: int, stretch: Stretch, carry: Arrays, settings: str, *, tolerant: bool
) -> Part:
    """Encode a stretch of at least one frame; `settings` says under which it was measured.

    `tolerant` says that damage was met: who goes on must look for more of it. Gaps behind the last
    frame are left out, because they will be met again.
    """
    pts_ms = np.concatenate([times for times, _ in stretch.frames])
    arrays = FrameFeatures.join([features for _, features in stretch.frames]).to_arrays()
    # Few frames have a descriptor; the zeros of the others need no room.
    arrays["descriptor"] = arrays["descriptor"][arrays["described"]]
    gaps = [
        [before, gap.start_ms, gap.end_ms, gap.cause]
        for before, gap in stretch.gaps
        if before < stretch.count
    ]
    header = {"settings": settings, "gaps": gaps, "tolerant": tolerant}
    return Part(
        number,
        stretch.position_ms,
        b"".join(pack(header, {"pts_ms": pts_ms, **arrays})),
        b"".join(pack({}, carry)),
    )


def read_stretch(part: Part, settings: str) -> Stretch | None:
    """Decode a part's stretch; None if it was measured under other settings.

    Raises:
        WireError, KeyError, TypeError, ValueError: it is no part.
    """
    header, arrays = _unpack(part.stretch)
    if header["settings"] != settings:
        return None
    compact, described = arrays["descriptor"], arrays["described"]
    arrays["descriptor"] = np.zeros((len(described), compact.shape[1]), compact.dtype)
    arrays["descriptor"][described] = compact
    stretch = Stretch()
    stretch.add((arrays.pop("pts_ms"), FrameFeatures.from_arrays(arrays)))
    stretch.gaps = [(before, Gap(*gap)) for before, *gap in header["gaps"]]
    stretch.tolerant = header["tolerant"]
    return stretch


def read_carry(part: Part) -> Arrays:
    """Decode what the device remembered at the end of a part.

    Raises:
        WireError, KeyError, TypeError, ValueError: it is not there, or no carry.
    """
    return _unpack(part.carry or b"")[1]


def _unpack(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    size = int.from_bytes(data[:4], "big")
    header, _ = unpack_header(data[4 : 4 + size])
    return header, read_arrays(header, data[4 + size :])

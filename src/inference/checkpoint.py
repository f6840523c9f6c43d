"""Checkpoints: what was measured of a video so far, in parts from which another run goes on.

A run is a fold over what decoder and device gave, in order. A part records a stretch of that, and
what the device remembers at its end; the fold is repeated from the record, not stored.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from inference.carry import measure_carry
from inference.features import DESCRIPTOR_SIZE, FrameFeatures
from inference.frames import Gap
from inference.people import TrackVectors
from inference.sights import Sights
from inference.wire import Arrays, WireError, pack, read_arrays, unpack_header

_SLICE_FRAMES = 256
_NUMBERS, _SUMS = "track_numbers", "track_sums"


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
        """Keep a part; False if that was not possible now, which loses nothing but time.

        Raises:
            JournalFullError: this part and those behind it are more than can be kept.
        """
        ...


class JournalFullError(Exception):
    """A journal keeps no more of this video than it has."""


class NoJournal:
    """Keeps nothing: every run is the first."""

    async def load(self) -> Sequence[Part]:
        """Return no part."""
        return ()

    async def save(self, part: Part) -> bool:  # noqa: ARG002 # a journal's signature
        """Forget the part."""
        return True


class Measured(NamedTuple):
    """What is known of N consecutive frames."""

    pts_ms: npt.NDArray[np.float64]
    """float64 [N], milliseconds."""
    features: FrameFeatures
    sights: Sights | None = None
    """What the models of a bundle saw; None without a bundle."""

    def lean(self) -> "Measured":
        """What a part holds of it: of persons' vectors, the sums of their tracks must do."""
        return self if self.sights is None else self._replace(sights=self.sights.without_vectors())

    @property
    def size_bytes(self) -> int:
        """About as much as it takes in a part."""
        features = self.features.to_arrays()
        described = int(np.count_nonzero(self.features.described))
        vectors = described * features.pop("descriptor")[:1].nbytes
        seen = {} if self.sights is None else self.sights.to_arrays()
        return vectors + sum(
            each.nbytes for each in (self.pts_ms, *features.values(), *seen.values())
        )


@dataclass(slots=True)
class Stretch:
    """What came since the last checkpoint, in order."""

    frames: list[Measured] = field(default_factory=list)
    gaps: list[tuple[int, Gap]] = field(default_factory=list)
    """Each with the number of frames of this stretch that came before it."""
    count: int = 0
    size_bytes: int = 0
    """About as much as it takes in a part."""
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
            self.frames.append(item.lean())
            self.count += len(item.pts_ms)
            self.size_bytes += self.frames[-1].size_bytes

    @property
    def start_ms(self) -> float:
        """Presentation time of the first frame; raises IndexError if there is none."""
        return float(self.frames[0].pts_ms[0])

    @property
    def position_ms(self) -> float:
        """Presentation time of the last frame; raises IndexError if there is none."""
        return float(self.frames[-1].pts_ms[-1])


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stretch that was kept. It stays encoded, and is decoded as it is given back."""

    arrays: Arrays
    """As in a part: `descriptor` has rows for the frames that are `described`, only."""
    sights: Sights | None
    gaps: list[tuple[int, Gap]]
    tolerant: bool
    tracks: TrackVectors | None = None
    """Of the tracks that were seen in it, as of its last frame; None without persons."""

    @property
    def position_ms(self) -> float:
        """Presentation time of the last frame."""
        return float(self.arrays["pts_ms"][-1])

    def items(self) -> Iterator[Measured | Gap]:
        """Give everything back in order, few frames at a time.

        Raises:
            KeyError, TypeError, ValueError: it is no stretch.
        """
        done = 0
        for before, gap in [*self.gaps, (len(self.arrays["pts_ms"]), None)]:
            for start in range(done, before, _SLICE_FRAMES):
                yield self._cut(slice(start, min(start + _SLICE_FRAMES, before)))
            done = before
            if gap is not None:
                yield gap

    def _cut(self, at: slice) -> Measured:
        described = self.arrays["described"]
        arrays = {name: array[at] for name, array in self.arrays.items() if name != "descriptor"}
        descriptor = np.zeros((len(arrays["described"]), DESCRIPTOR_SIZE), np.float32)
        first = int(np.count_nonzero(described[: at.start]))
        count = int(np.count_nonzero(arrays["described"]))
        descriptor[arrays["described"]] = self.arrays["descriptor"][first : first + count]
        pts_ms = arrays.pop("pts_ms")
        features = FrameFeatures.from_arrays({**arrays, "descriptor": descriptor})
        sights = None if self.sights is None else self.sights.cut(at.start, at.stop)
        return Measured(pts_ms, features, sights)


def write_part(
    number: int,
    stretch: Stretch,
    carry: Arrays,
    settings: str,
    *,
    tracks: TrackVectors | None = None,
) -> Part:
    """Encode a stretch of at least one frame; `settings` says under which it was measured.

    `tracks` are those that were seen in it. Gaps behind the last frame are left out, because they
    will be met again.
    """
    pts_ms = np.concatenate([each.pts_ms for each in stretch.frames])
    arrays = FrameFeatures.join([each.features for each in stretch.frames]).to_arrays()
    # Few frames have a descriptor; the zeros of the others need no room.
    arrays["descriptor"] = arrays["descriptor"][arrays["described"]]
    gaps = [
        [before, gap.start_ms, gap.end_ms, gap.cause]
        for before, gap in stretch.gaps
        if before < stretch.count
    ]
    seen = [each.sights for each in stretch.frames if each.sights is not None]
    sights = Sights.join(seen).to_arrays() if seen else {}
    summed: dict[str, npt.NDArray[Any]] = {}
    if tracks is not None:
        summed = {_NUMBERS: tracks.numbers, _SUMS: tracks.sums}
    header = {
        "settings": settings,
        "gaps": gaps,
        "tolerant": stretch.tolerant,
        "sights": list(sights),
        "tracks": list(summed),
    }
    return Part(
        number,
        stretch.position_ms,
        b"".join(pack(header, {"pts_ms": pts_ms, **arrays, **sights, **summed})),
        b"".join(pack({}, carry)),
    )


def read_stretch(part: Part, settings: str) -> Recorded | None:
    """Read a part's stretch to its end; None if it was measured under other settings.

    Raises:
        WireError, KeyError, TypeError, ValueError, IndexError: it is no part.
    """
    header, arrays = _unpack(part.stretch)
    if header["settings"] != settings:
        return None
    gaps = [(before, Gap(*gap)) for before, *gap in header["gaps"]]
    seen = {name: arrays.pop(name) for name in header["sights"]}
    sights = Sights.from_arrays(seen) if seen else None
    if sights is not None and len(sights) != len(arrays["pts_ms"]):
        raise ValueError(f"{len(sights)} frames were seen, not {len(arrays['pts_ms'])}")
    summed = {name: arrays.pop(name) for name in header["tracks"]}
    tracks = TrackVectors(summed[_NUMBERS], summed[_SUMS]) if summed else None
    recorded = Recorded(arrays, sights, gaps, header["tolerant"], tracks)
    counts = dict.fromkeys(arrays, len(arrays["pts_ms"]))
    counts["descriptor"] = int(np.count_nonzero(arrays["described"]))
    if counts != {name: len(array) for name, array in arrays.items()}:
        raise ValueError(f"not as many as there are frames: {counts}")
    for _ in recorded.items():  # fails here, if at all, and not when half of it was taken
        pass
    return recorded


def read_carry(part: Part) -> Arrays:
    """Decode what the device remembered at the end of a part.

    Raises:
        WireError, KeyError, TypeError, ValueError: it is not there, or no carry.
    """
    arrays = _unpack(part.carry or b"")[1]
    measure_carry(arrays)
    return arrays


@dataclass(slots=True)
class Past:
    """What earlier runs have left of a video."""

    stretches: list[Recorded] = field(default_factory=list)
    count: int = 0
    """Of the parts."""
    position_ms: float | None = None
    carry: Arrays = field(default_factory=dict)
    tolerant: bool = False
    """Damage was met: what follows is read by the backend that tells it."""

    def fits(self, width: int, height: int) -> bool:
        """Whether the built-in analysis measured it at this size."""
        return not self.carry or measure_carry(self.carry) == (height, width)

    async def repeat(self, take: Callable[[Measured | Gap | TrackVectors], None]) -> None:
        """Give everything to `take`, once; others get their turn in between.

        What the vectors of tracks add up to comes behind the frames that they were seen in.
        """
        while self.stretches:
            stretch = self.stretches.pop(0)
            for item in stretch.items():
                take(item)
                await asyncio.sleep(0)
            if stretch.tracks is not None:
                take(stretch.tracks)


async def read_past(journal: Journal, settings: str) -> Past:
    """Load what a run under these settings can go on from; nothing where any of it is amiss."""
    parts = await journal.load()
    stretches: list[Recorded] = []
    try:
        for part in parts:
            stretch = await asyncio.to_thread(read_stretch, part, settings)
            if stretch is None:
                return Past()
            stretches.append(stretch)
        if not stretches:
            return Past()
        carry, last = read_carry(parts[-1]), stretches[-1]
    except (WireError, KeyError, TypeError, ValueError, IndexError):
        return Past()  # whatever that was, the video can be analysed without it
    return Past(stretches, len(parts), last.position_ms, carry, last.tolerant)


def _unpack(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    size = int.from_bytes(data[:4], "big")
    header, _ = unpack_header(data[4 : 4 + size])
    # Not cut out of the data: that would be another copy of it.
    return header, read_arrays(header, memoryview(data)[4 + size :])

"""Finds to the frame where shots begin that were seen at a coarse rate."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from inference.analyzers.cuts import Cut
from inference.decode import Decoding, Limits, Request
from inference.errors import DecoderFailedError, VideoRejectedError
from inference.forkserver import ForkServer
from inference.slabs import Slabs
from inference.wire import Changed

MAX_CUTS = 500
"""Of one video; further ones stay where they were seen."""
_TOTAL_SECONDS = 300.0
_FAR_MS, _FAR_SHARE = 60_000.0, 0.25
"""So much of a video is decoded for cuts between keyframes that are far apart, or such a share."""


@dataclass(slots=True)
class Refined:
    """What a second look at the stretches before cuts has shown."""

    changes: dict[int, Changed] = field(default_factory=dict)
    """By the number of the cut; those that could be looked at."""
    cpu_seconds: float = 0.0
    fault: str = ""
    """Why not all of them were, if the decoder failed."""


def plan_looks(cuts: Sequence[Cut], length_ms: float) -> list[int]:
    """Choose the cuts to look at again, by their numbers, ascending: the clearest of the far."""
    allowed = max(_FAR_MS, _FAR_SHARE * length_ms)
    chosen = [at for at, cut in enumerate(cuts) if not cut.is_far]
    for at in sorted(range(len(cuts)), key=lambda at: -cuts[at].score):
        span = cuts[at].pts_ms - cuts[at].since_ms
        if cuts[at].is_far and span <= allowed:
            allowed -= span
            chosen.append(at)
    return sorted(sorted(chosen)[:MAX_CUTS])


@dataclass(frozen=True, slots=True)
class Refiner:
    """Looks again, with every frame, at where a cut was seen."""

    server: ForkServer
    limits: Limits
    """Those of the videos' own decoders."""

    async def look(
        self, path: Path, cuts: Sequence[Cut], length_ms: float, on_alive: Callable[[], None]
    ) -> Refined:
        """Find the frames where the cuts are; those only that were had before a decoder failed."""
        refined, looked = Refined(), plan_looks(cuts, length_ms)
        if not looked:
            return refined
        spans = [(cuts[at].since_ms, cuts[at].pts_ms) for at in looked]
        request = Request(path, None, 1, 1, tolerant=True, spans=spans)
        limits = replace(self.limits, total_seconds=_TOTAL_SECONDS)
        with closing(Slabs.create(1, 1)) as slabs:
            decoding = Decoding(self.server, request, limits, slabs, on_alive)
            try:
                async with decoding:
                    async for _ in decoding:
                        pass
            except (DecoderFailedError, VideoRejectedError) as error:
                refined.fault = f"{error.reason}: {error.detail}"
        found = admit_changes(decoding.changes, spans)
        refined.changes = {looked[number]: change for number, change in found.items()}
        refined.cpu_seconds = decoding.finished.cpu_seconds if decoding.finished else 0.0
        return refined


def admit_changes(
    changes: Sequence[Changed], spans: Sequence[tuple[float, float]]
) -> Mapping[int, Changed]:
    """Leave out what cannot be: a decoder has read a stranger's file."""
    return {
        change.span: change
        for change in changes
        if 0 <= change.span < len(spans)
        and spans[change.span][0] < change.at_ms <= spans[change.span][1]
    }

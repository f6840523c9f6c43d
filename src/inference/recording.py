"""Writes down what is measured of a video, part by part, while the work goes on."""

import asyncio
import time
from dataclasses import dataclass, field

from inference.checkpoint import Journal, JournalFullError, Measured, Stretch, write_part
from inference.device import DeviceVideo
from inference.frames import Gap
from inference.timeline import Timeline

CUT_BYTES = 8 << 20
"""What is measured is written down at the latest when it is so much: the work waits for it."""


@dataclass(slots=True)
class Recording:
    """Collects what is measured and cuts it into parts."""

    journal: Journal
    settings: str
    interval_seconds: float
    number: int
    """Of the next part."""
    stretch: Stretch = field(default_factory=Stretch)
    cut_at: float = field(default_factory=time.monotonic)
    is_full: bool = False
    """The journal takes no more: the last part that it has must do."""
    _tried_bytes: int = 0
    """Of the stretch, when it could not be kept the last time."""

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next part."""
        return (
            time.monotonic() - self.cut_at >= self.interval_seconds
            or self.stretch.size_bytes - self._tried_bytes >= CUT_BYTES
        )

    def add(self, item: Measured | Gap) -> None:
        """Take the next frames or the next gap."""
        if not self.is_full:
            self.stretch.add(item)

    async def cut(self, video: DeviceVideo, timeline: Timeline) -> None:
        """Write down what came since the last part, if that is any frame.

        Both have taken all that was added, and nothing else.
        """
        stretch = self.stretch
        if not stretch.count:
            return
        tracks = timeline.vectors_since(stretch.start_ms)
        carry = await video.carry()
        part = await asyncio.to_thread(
            write_part, self.number, stretch, carry, self.settings, tracks=tracks
        )
        try:
            if await self.journal.save(part):
                self.number, self.stretch = self.number + 1, stretch.rest()
        except JournalFullError:
            self.is_full, self.stretch = True, Stretch()
        self.cut_at, self._tried_bytes = time.monotonic(), self.stretch.size_bytes

"""When what is measured is written down, on a device of its own."""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from tests.factories_video import make_slabs
from tests.unit.inference.test_checkpoint import make_measured

from inference.checkpoint import JournalFullError, Part
from inference.device import Device, DeviceVideo
from inference.recording import CUT_BYTES, Recording
from inference.timeline import Timeline

FRAMES, ENOUGH = 2000, 50_000


@dataclass(slots=True)
class Answers:
    """A journal that says these things, one after the other."""

    answers: list[bool | None]
    """None: it is full."""
    given: list[Part] = field(default_factory=list)

    async def load(self) -> Sequence[Part]:
        """Return no part."""
        return ()

    async def save(self, part: Part) -> bool:
        """Give the next answer."""
        self.given.append(part)
        answer = self.answers.pop(0)
        if answer is None:
            raise JournalFullError
        return answer


@pytest.fixture
async def video() -> AsyncIterator[DeviceVideo]:
    """A video on a device, before its first frame."""
    device, slabs = Device("cpu"), make_slabs(1, 1)
    async with device.open(slabs) as video:
        yield video
    await device.close()
    slabs.close()


def fill(recording: Recording) -> int:
    """Add frames until a part is due; return how many."""
    added = 0
    while not recording.is_due and added < ENOUGH:
        recording.add(make_measured(added, FRAMES))
        added += FRAMES
    return added


async def test_much_is_written_down_early(video: DeviceVideo) -> None:
    """A part is due as soon as there is much of it; what cannot be kept is not tried at once again.

    Once the journal is full, nothing is due, and nothing is held in memory.
    """
    journal = Answers([True, False, True, None])
    recording = Recording(journal, "settings", math.inf, 0)
    timeline = Timeline(source_fps=24, sample_fps=None)
    counts = []

    for _ in range(4):
        counts.append(fill(recording))
        await recording.cut(video, timeline)

    first, second, third, _ = (len(part.stretch) for part in journal.given)
    assert [part.number for part in journal.given] == [0, 1, 1, 2]
    assert CUT_BYTES < first < 1.3 * CUT_BYTES
    assert [second, third] == pytest.approx([first, 2 * first], rel=0.1)
    assert fill(recording) == ENOUGH
    await recording.cut(video, timeline)
    assert (len(journal.given), recording.stretch.size_bytes) == (4, 0)

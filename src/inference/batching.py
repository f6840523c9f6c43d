"""Which frames make the next batch of the models: a pure rule, to which the time is told."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Batcher(Generic[Item]):
    """Frames of several videos that wait for their batch.

    Videos have their turns in the order in which they came. In its turn a video gives at most half
    a batch, and then stands behind all others: so `ahead` videos in front of it, however much they
    bring, are gone or behind it within `ahead // 2 + 1` batches. A video that the end of a batch
    cuts short goes on with its turn in the next one: videos that come at once are finished one
    after the other, and those that are finished bring more while the others are at work.
    """

    wait_seconds: float
    """How long a frame may wait for others to fill its batch."""
    _waiting: OrderedDict[int, deque[tuple[Item, float]]] = field(default_factory=OrderedDict)
    """By video, in the order of their turns: what waits, each with the time at which it came."""
    _given: int = 0
    """What the first video gave in its turn so far."""

    def __len__(self) -> int:
        """How many frames wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, video: int, items: Iterable[Item], now: float) -> None:
        """Take a video's next frames, in order."""
        self._waiting.setdefault(video, deque()).extend((item, now) for item in items)

    def drop(self, video: int) -> None:
        """Forget a video's frames."""
        if video == next(iter(self._waiting), None):
            self._given = 0
        self._waiting.pop(video, None)

    def due(self, size: int, videos: float) -> float | None:
        """When the next batch, of `size` frames, has to begin; None where nothing waits.

        At once (-inf) when it is full, or when all of the `videos` that there are wait for it: more
        comes only from a video that has its answer. Infinitely many: more may always come.
        """
        if not self._waiting:
            return None
        if len(self._waiting) >= videos or len(self) >= size:
            return float("-inf")
        return self.wait_seconds + min(frames[0][1] for frames in self._waiting.values())

    def take(self, size: int, *, alone: bool = False) -> list[Item]:
        """Remove and return the next batch, at most `size` frames; `alone`: of one video."""
        batch: list[Item] = []
        share = size if alone else -(-size // 2)
        while self._waiting and len(batch) < size:
            video, frames = next(iter(self._waiting.items()))
            count = max(0, min(size - len(batch), len(frames), share - self._given))
            batch += [frames.popleft()[0] for _ in range(count)]
            self._given += count
            self._end_turn(video, share)
            if alone:
                break
        return batch

    def _end_turn(self, video: int, share: int) -> None:
        if not self._waiting[video]:
            del self._waiting[video]
        elif self._given >= share:
            self._waiting.move_to_end(video)
        else:
            return  # the batch is full, the turn is not over
        self._given = 0

"""Frames of all videos on their way through a bundle's models, batch by batch.

The detector sees frames, the other parts the crops of what it found, and frames as a whole. Crops
wait for those of other batches and videos, so that their batches are full, too. On CUDA a batch is
read only when the next one is begun: the device has work while this process reads.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from inference.batching import Batcher
from inference.models.batches import Later, parts_of, spared
from inference.models.crops import cut
from inference.models.loaded import NOBODY, Models
from inference.people import Detections, Reading
from inference.sights import Sight, Vector

Item = TypeVar("Item")
Owner = TypeVar("Owner")


@dataclass(slots=True)
class Look(Generic[Owner]):
    """One frame, and what is known of it so far."""

    owner: Owner
    """Whoever asked about it."""
    video: int
    frame: Tensor
    """uint8 [3, H, W], on the models' device."""
    searched: bool = True
    """Persons are looked for in it."""
    whole: bool = False
    """It is embedded as such."""
    seconds: float = 0.0
    """Its shares of the time that its batches took."""
    persons: Detections = NOBODY
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    vectors: list[Vector | None] = field(default_factory=list)
    frame_vector: Vector | None = None
    lacking: int = 0
    """Pictures that the embedder gave no direction for."""
    left: int = 0
    """So many parts of all this are still to be known."""
    is_dropped: bool = False
    """Nobody wants to know any more."""

    def sight(self) -> Sight:
        """Put together what was seen."""
        return Sight(self.persons, self.readings, self.vectors, self.lacking, self.frame_vector)


@dataclass(frozen=True, slots=True)
class _Picture(Generic[Owner]):
    """What the parts behind the detector see: a crop, or a frame as a whole."""

    look: Look[Owner]
    person: int | None
    """Whose crop it is, in the order of the detections; None: the whole frame."""
    pixels: Tensor

    def note(self, readings: Mapping[str, Reading], vector: Vector | None) -> None:
        """Add what was seen to what is known of the frame."""
        look = self.look
        look.left -= 1
        if self.person is None:
            look.frame_vector = vector
            return
        look.vectors[self.person] = vector
        for name, reading in readings.items():
            look.readings[name][self.person] = reading


@dataclass(frozen=True, slots=True)
class _Batch(Generic[Owner]):
    """One that was begun and has not been read."""

    looks: Sequence[Look[Owner]]
    """Whose pictures are in it."""
    parts: Sequence[Later[list[Look[Owner]]]]
    """Each gives the frames of which all is known then; there are several if memory is short."""
    start: float


@dataclass(slots=True)
class Line(Generic[Owner]):
    """All frames between the question about them and the answer."""

    models: Models
    wait_seconds: float
    """How long a frame, or what was found in it, may wait for others to fill its batch."""
    depth: int
    """So many batches are begun before the first of them is read."""
    alone_batches: int = 0
    """So many of the next batches are of one video each, and nothing is begun beside them."""
    on_begin: Callable[[set[Owner], int], None] = lambda _owners, _frames: None
    """Told before each batch whose pictures it has, and how many frames, which crops are none."""
    _frames: Batcher[Look[Owner]] = field(init=False)
    _crops: Batcher[_Picture[Owner]] = field(init=False)
    _wholes: Batcher[_Picture[Owner]] = field(init=False)
    _begun: deque[_Batch[Owner]] = field(default_factory=deque)
    _counted_to: float = 0.0
    """Up to when the time was put down to somebody."""
    _gave_way: bool = False
    """The last batch was not of frames that nothing was known of."""

    def __post_init__(self) -> None:
        self._frames = Batcher(self.wait_seconds)
        self._crops = Batcher(self.wait_seconds)
        self._wholes = Batcher(self.wait_seconds)

    def add(self, video: int, looks: Iterable[Look[Owner]]) -> int:
        """Take a video's next frames, in order, and tell in how many there is something to see.

        Of the others all is known: the bundle has no part for what was asked about them.
        """
        now, models, taken = time.monotonic(), self.models, list(looks)
        searched = [look for look in taken if look.searched and models.detector is not None]
        for look in searched:
            look.left += 1
        if searched:
            self._frames.add(video, searched, now)
        for look in taken:
            if look.whole and models.embedder is not None:
                look.left += 1
                self._wholes.add(video, [_Picture(look, None, look.frame)], now)
        return sum(look.left > 0 for look in taken)

    def drop(self, video: int) -> None:
        """Forget a video's frames; those that were begun come out all the same."""
        for waiting in (self._frames, self._crops, self._wholes):
            waiting.drop(video)
        for look in (look for batch in self._begun for look in batch.looks):
            look.is_dropped = look.is_dropped or look.video == video

    def due(self, videos: int) -> float | None:
        """When `step` has something to do, where so many videos bring frames; None: nothing yet."""
        if self._begun or any(map(len, self._behind)):
            return float("-inf")
        return self._first.due(self._size, videos)

    def owners(self) -> set[Owner]:
        """Tell whose pictures were begun and not read."""
        return {look.owner for batch in self._begun for look in batch.looks}

    def seconds_since(self, start: float) -> float:
        """Put the time since `start` down to the caller, but for what others were told of it."""
        now = time.monotonic()
        seconds, self._counted_to = now - max(start, self._counted_to), now
        return seconds

    def step(self, videos: int) -> list[Look[Owner]]:
        """Begin the next batch if there is one, and read the oldest if it is time.

        Returns the frames of which all is known now. What does not fit into memory is done in
        smaller batches from then on.
        """
        depth = 1 if self._is_alone else self.depth
        with torch.inference_mode():
            has_begun = self._begin_next(videos)
            is_time = len(self._begun) >= depth or not has_begun
            return self._read() if self._begun and is_time else []

    @property
    def _size(self) -> int:
        return self.models.batch_size.number

    @property
    def _is_alone(self) -> bool:
        return self.alone_batches > 0

    @property
    def _first(self) -> Batcher[Look[Owner]] | Batcher[_Picture[Owner]]:
        """Where frames wait of which nothing is known."""
        return self._wholes if self.models.detector is None else self._frames

    @property
    def _behind(self) -> Sequence[Batcher[_Picture[Owner]]]:
        """Where pictures wait that no video brings by itself: one after the other has its turn."""
        return () if self.models.detector is None else (self._crops, self._wholes)

    def _begin_next(self, videos: int) -> bool:
        now, is_idle = time.monotonic(), not self._begun
        due = self._first.due(self._size, videos)
        # While the device has work, the frames that may yet come are worth the wait.
        is_due = due is not None and due <= now and (is_idle or len(self._first) >= self._size)
        # A crowd in one video's frames has a thousand crops: the others' frames have turns, too.
        if not (is_due and self._gave_way):
            for waiting in filter(len, self._behind):
                if self._is_pressing(waiting, now) or (is_idle and not is_due):
                    self._gave_way = True
                    self._begin_pictures(waiting)
                    return True
        if is_due:
            self._gave_way = False
            if self.models.detector is None:
                self._begin_pictures(self._wholes)
            else:
                self._begin_frames()
        return is_due

    def _is_pressing(self, waiting: Batcher[_Picture[Owner]], now: float) -> bool:
        due = waiting.due(self._size, float("inf"))
        return self._is_alone or (due is not None and due <= now)

    def _begin_frames(self) -> None:
        looks = self._frames.take(self._size, alone=self._is_alone)
        self._begin(looks, looks, self._find, frames=len(looks))

    def _begin_pictures(self, waiting: Batcher[_Picture[Owner]]) -> None:
        pictures = waiting.take(self._size, alone=self._is_alone)
        frames = len(pictures) if self.models.detector is None else 0
        self._begin([each.look for each in pictures], pictures, self._examine, frames=frames)

    def _begin(
        self,
        looks: Sequence[Look[Owner]],
        batch: Sequence[Item],
        begin: Callable[[Sequence[Item]], Later[list[Look[Owner]]]],
        *,
        frames: int = 0,
    ) -> None:
        self.on_begin({look.owner for look in looks}, frames)
        if frames:
            self.alone_batches -= 1
        start, size = time.monotonic(), self.models.batch_size

        def run() -> list[Later[list[Look[Owner]]]]:
            return [begin(part) for part in parts_of(batch, size)]

        self._begun.append(_Batch(looks, spared(run, size, self.models.device), start))

    def _read(self) -> list[Look[Owner]]:
        batch = self._begun.popleft()
        complete = [look for read in batch.parts for look in read()]
        share = self.seconds_since(batch.start) / len(batch.looks)
        for look in batch.looks:
            look.seconds += share
        return complete

    def _find(self, looks: Sequence[Look[Owner]]) -> Later[list[Look[Owner]]]:
        later = self.models.find([look.frame for look in looks])

        def read() -> list[Look[Owner]]:
            for look, found in zip(looks, later(), strict=True):
                look.persons = found
                self._go_on(look)
            return [look for look in looks if not look.left]

        return read

    def _go_on(self, look: Look[Owner]) -> None:
        """Queue what the other parts have to see of the persons that were found in a frame."""
        now, models, boxes = time.monotonic(), self.models, look.persons.boxes
        look.left -= 1
        if look.is_dropped:
            return
        look.readings = {name: [Reading()] * len(boxes) for name in models.attributes}
        look.vectors = [None] * len(boxes)
        if models.attributes or models.embedder is not None:
            cuts = [(at, cut(look.frame, box)) for at, box in enumerate(boxes)]
            crops = [_Picture(look, at, crop) for at, crop in cuts if crop is not None]
            if crops:
                self._crops.add(look.video, crops, now)
            look.left += len(crops)

    def _examine(self, pictures: Sequence[_Picture[Owner]]) -> Later[list[Look[Owner]]]:
        """Begin with pictures that are all crops, or all whole frames."""
        are_crops = pictures[0].person is not None
        later = self.models.examine([each.pixels for each in pictures], read=are_crops)

        def read() -> list[Look[Owner]]:
            complete = []
            for picture, (readings, vector) in zip(pictures, later(), strict=True):
                picture.note(readings, vector)
                if self.models.embedder is not None and vector is None:
                    picture.look.lacking += 1
                if not picture.look.left:
                    complete.append(picture.look)
            return complete

        return read


def look_at(
    models: Models,
    frames: Sequence[Tensor],
    whole: Sequence[bool] = (),
    searched: Sequence[bool] = (),
) -> list[Sight]:
    """See what is in frames uint8 [3, H, W]; no frame changes what is seen in another.

    `whole`: which of them to embed as such (empty: none); `searched`: in which to look for persons
    (empty: all).
    """
    count = len(frames)
    looks = [
        Look(None, 0, frame.to(models.device), is_searched, is_whole)
        for frame, is_searched, is_whole in zip(
            frames, searched or [True] * count, whole or [False] * count, strict=True
        )
    ]
    line = Line[None](models, float("inf"), depth=2)
    line.add(0, looks)
    while line.due(1) is not None:
        line.step(1)
    return [each.sight() for each in looks]

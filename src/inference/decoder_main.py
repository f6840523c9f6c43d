"""The decoder's process: one untrusted file in, frames in shared memory and JSON lines out."""

import faulthandler
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from inference.backends import (
    DamageError,
    ErrorLog,
    Item,
    Passed,
    Sampled,
    Selection,
    read_with_decord,
)
from inference.changes import find_changes
from inference.confinement import confine, take_stdout
from inference.errors import VideoRejectedError
from inference.frames import Gap
from inference.keyframes import plan_keyframes, read_keyframes
from inference.moments import Moment
from inference.pictures import read_pictures
from inference.probe import Probe, probe
from inference.sampling import AUTO_FPS
from inference.slabs import Slabs
from inference.sparse import plan_packets, read_sparsely
from inference.survey import survey
from inference.tolerant import Tolerant
from inference.wire import (
    Alive,
    Changed,
    Filled,
    Finished,
    Message,
    Opened,
    Order,
    OutOfMemory,
    Rejected,
    clean_text,
    write_line,
)

_ALIVE_SECONDS = 1.0


@dataclass(slots=True)
class Outbox:
    """Fills slabs with frames and tells the parent; blocks while the parent holds all of them."""

    slabs: Slabs
    batch_size: int
    stdout: BinaryIO
    decoded: int = 0
    waited_seconds: float = 0.0
    last_ms: float | None = None
    """Time of the latest frame put, or of the one to go on behind."""
    _free: list[int] = field(default_factory=list)
    _slab: int | None = None
    _times: list[float] = field(default_factory=list)
    _told: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._free = list(range(self.slabs.count))

    def put(self, item: Item) -> None:
        """Take what a backend yields."""
        match item:
            case Sampled():
                self._put_frame(item)
            case Gap():
                self.flush()
                self.say(item)
            case Passed():
                self.decoded += item.frames
                self.tick()

    def tick(self) -> None:
        """Show that work goes on, if nothing else was said for a while."""
        if time.monotonic() - self._told > _ALIVE_SECONDS:
            self.say(Alive(self.decoded))

    def flush(self) -> None:
        """Hand over the frames collected so far."""
        if self._slab is not None:
            self.say(Filled(self._slab, tuple(self._times)))
        self._slab, self._times = None, []

    def say(self, message: Message) -> None:
        """Send one line."""
        self.stdout.write(write_line(message))
        self._told = time.monotonic()

    def _put_frame(self, frame: Sampled) -> None:
        if self._slab is None:
            self._slab = self._take_slab()
        height, width = frame.pixels.shape[:2]
        self.slabs.frames(self._slab, self.batch_size, height, width)[len(self._times)] = (
            frame.pixels
        )
        self._times.append(frame.pts_ms)
        self.last_ms = frame.pts_ms
        if len(self._times) == self.batch_size:
            self.flush()

    def _take_slab(self) -> int:
        if not self._free:
            start = time.monotonic()
            line = sys.stdin.buffer.readline()
            if not line:
                sys.exit(1)  # nobody is left to decode for
            self._free.append(int(line))
            self.waited_seconds += time.monotonic() - start
        return self._free.pop()


def run(order: Order, slabs_fd: int) -> None:
    """Decode one file as ordered; returns if whoever reads stdout was told how it ended."""
    faulthandler.enable()
    confine(memory_bytes=order.memory_bytes, cpu_seconds=order.cpu_seconds)
    slabs = Slabs(slabs_fd, order.slab_count, order.slab_bytes)
    outbox = Outbox(slabs, order.batch_size, take_stdout(), last_ms=order.after_ms)
    try:
        _decode(order, outbox)
    except VideoRejectedError as error:
        outbox.say(Rejected(error.reason, clean_text(error.detail)))
    except MemoryError as error:
        outbox.say(OutOfMemory(clean_text(str(error) or "an allocation failed")))


def _decode(order: Order, outbox: Outbox) -> None:
    start = time.monotonic()
    log = ErrorLog()
    facts = probe(Path(order.path), order.max_seconds, outbox.tick, order.frame_side)
    if order.moments is not None:
        _show(order, [Moment(*numbers) for numbers in order.moments], facts, outbox)
        return
    if order.spans is not None:
        _find(order, order.spans, facts, outbox)
        return
    path, selection = Path(order.path), _select(order, facts, outbox, log)
    backend, frames = open_frames(
        path, facts, selection, tolerant=order.tolerant, threads=order.threads, log=log
    )
    outbox.decoded = selection.passed(facts.times_ms())
    outbox.say(Opened(facts.info, *facts.frame_size(), backend))
    try:
        for item in frames:
            outbox.put(item)
    except DamageError:
        # The frames that were handed over before are good.
        backend = "tolerant"
        rest = replace(selection, after_ms=outbox.last_ms)
        for item in Tolerant(path, facts, rest, order.threads, log).read():
            outbox.put(item)
    outbox.flush()
    seconds = time.monotonic() - start - outbox.waited_seconds
    outbox.say(Finished(outbox.decoded, seconds, facts.end_ms, backend, time.process_time()))


def _select(order: Order, facts: Probe, outbox: Outbox, log: ErrorLog) -> Selection:
    """Say which frames are wanted, after a look at the keyframes if that is to decide."""
    if order.sample_fps != "auto":
        return Selection(order.sample_fps, order.after_ms)
    chosen = survey(Path(order.path), facts, threads=order.threads, log=log, tick=outbox.tick)
    return Selection(AUTO_FPS, order.after_ms, chosen)


def _show(order: Order, moments: Sequence[Moment], facts: Probe, outbox: Outbox) -> None:
    """Decode the pictures of some moments, and little else."""
    start = time.monotonic()
    outbox.say(Opened(facts.info, *facts.frame_size(), "pictures"))
    for item in read_pictures(Path(order.path), facts, moments, order.threads):
        outbox.put(item)
    outbox.flush()
    seconds = time.monotonic() - start - outbox.waited_seconds
    outbox.say(Finished(0, seconds, facts.end_ms, "pictures", time.process_time()))


def _find(order: Order, spans: Sequence[tuple[float, float]], facts: Probe, outbox: Outbox) -> None:
    """Tell where the picture changes; no pixel leaves the process."""
    outbox.say(Opened(facts.info, *facts.frame_size(), "changes"))
    found = find_changes(Path(order.path), facts, spans, threads=order.threads, log=ErrorLog())
    for item in found:
        if isinstance(item, Changed):
            outbox.say(item)
        else:
            outbox.put(item)
    outbox.say(Finished(0, 0.0, facts.end_ms, "changes", time.process_time()))


def open_frames(
    path: Path,
    facts: Probe,
    selection: Selection,
    *,
    tolerant: bool,
    threads: int,
    log: ErrorLog,
) -> tuple[str, Iterator[Item]]:
    """Pick the cheapest backend that can be trusted with the file; return its name and yield.

    Iterating raises DamageError where the file turns out not to be as the probe took it for.
    """
    if not tolerant and plan_keyframes(facts, selection):
        return "keyframes", read_keyframes(path, facts, selection, threads=threads, log=log)
    needed = plan_packets(facts, selection)
    if tolerant or (needed is None and facts.tolerant_because):
        return "tolerant", Tolerant(path, facts, selection, threads, log).read()
    read = read_with_decord if needed is None else partial(read_sparsely, needed=needed)
    frames = read(path, facts, selection, threads=threads, log=log)
    return "decord" if needed is None else "sparse", frames

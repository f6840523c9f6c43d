"""The tolerant backend: PyAV, packet by packet, telling which stretches are damaged."""

import heapq
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from inference.backends import ErrorLog, Item, Passed, Sampled, Selection
from inference.containers import open_stream
from inference.frames import Gap
from inference.probe import Probe
from inference.sampling import Sampler
from inference.scaling import Scaler

_ERROR_REACH = 32
"""Frames for which an error is remembered: reordering and threads show its effect later."""
_READ_RETRIES = 8
_REORDER_FRAMES = 4
_PIXEL_BYTES = 4


@dataclass(slots=True)
class Coverage:
    """Compares the frames that came with those that were promised: what is missing is a gap."""

    expected: npt.NDArray[np.int64]
    """int64 [N], ascending: times of the frames to come; empty if the file does not say."""
    typical: int
    """The usual time between two frames."""
    complete: bool
    """The container has an index: damage can hide no packet, only spoil it."""
    _next: int = 0
    _last: int | None = None
    _since_error: int = _ERROR_REACH + 1

    def error(self) -> None:
        """Note that the decoder complained: without that, a late frame is just a late frame."""
        self._since_error = 0

    def start_after(self, pts: int) -> None:
        """Take all up to `pts` as delivered."""
        self._last = pts
        self._next = int(np.searchsorted(self.expected, pts, side="right"))

    def good(self, pts: int) -> tuple[int, int] | None:
        """Take a good frame; return the stretch that is missing before it."""
        missing = self._missing_before(pts)
        self._next = int(np.searchsorted(self.expected, pts, side="right"))
        self._last = pts
        damaged = self._since_error <= _ERROR_REACH
        self._since_error += 1
        return missing if damaged else None

    def finish(self, end: int) -> tuple[int, int] | None:
        """Return the stretch that is missing at the end."""
        missing = self._missing_before(end)
        return missing if self._since_error <= _ERROR_REACH or self._last is None else None

    def _missing_before(self, pts: int) -> tuple[int, int] | None:
        start = pts
        if self._next < len(self.expected):
            start = min(start, int(self.expected[self._next]))
        # A lost packet leaves no trace but an interval that is too long, next to an error.
        hole = self._last is not None and 2 * (start - self._last) > 3 * self.typical > 0
        if hole and self._last is not None and not (self.complete and start < pts):
            start = self._last + self.typical
        return (start, pts) if start < pts else None


@dataclass(slots=True)
class Clock:
    """Gives each decoded frame its presentation time."""

    by_decode_order: bool
    first_pts: int
    step: int
    _offset: int | None = None
    _last: int | None = None

    def time(self, frame: VideoFrame) -> int:
        """The time of the next frame, in the stream's units."""
        pts = frame.pts
        if self.by_decode_order and frame.dts is not None:
            # AVI stores one time per packet, in decoding order: exact but for a constant.
            if self._offset is None:
                self._offset = self.first_pts - frame.dts
            pts = frame.dts + self._offset
        if pts is None:
            pts = frame.dts
        if pts is None:
            pts = self.first_pts if self._last is None else self._last + self.step
        self._last = pts
        return pts


def _in_order(frames: Iterator[tuple[int, VideoFrame]]) -> Iterator[tuple[int, VideoFrame]]:
    """Sort by time within a short window: next to damage, decoders let frames out too early."""
    window: list[tuple[int, int, VideoFrame]] = []
    for number, (pts, frame) in enumerate(frames):
        heapq.heappush(window, (pts, number, frame))
        if len(window) > _REORDER_FRAMES:
            first, _, picture = heapq.heappop(window)
            yield first, picture
    for first, _, picture in sorted(window):
        yield first, picture


def _require_memory(size: int) -> None:
    try:
        mmap.mmap(-1, size).close()
    except OSError as error:
        raise MemoryError("no room for another picture") from error


@dataclass(slots=True)
class Tolerant:
    """One tolerant pass over a file, from its start or from where another had to stop."""

    path: Path
    probe: Probe
    selection: Selection
    threads: int
    log: ErrorLog
    _last: int | None = None
    _coverage: Coverage = field(init=False)
    _sampler: Sampler = field(init=False)
    _chosen: frozenset[int] | None = field(init=False)
    _keyframes: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        probe = self.probe
        typical = int(np.median(np.diff(probe.pts))) if len(probe.pts) > 1 else 0
        expected = probe.pts if probe.exact and not self._is_avi() else probe.pts[:0]
        self._coverage = Coverage(expected, typical, "mov" in probe.info.container)
        self._sampler = Sampler(self.selection.sample_fps, probe.milliseconds(int(probe.pts[0])))
        self._keyframes = frozenset(probe.keyframes.tolist())
        chosen = self.selection.chosen
        self._chosen = None if chosen is None else frozenset(probe.pts[chosen].tolist())
        if (after_ms := self.selection.after_ms) is not None:
            self._sampler.take(after_ms)
            position = int(np.searchsorted(probe.times_ms(), after_ms, side="right")) - 1
            self._last = int(probe.pts[position])
            self._coverage.start_after(self._last)

    def read(self) -> Iterator[Item]:
        """Yield sampled frames and gaps, in presentation order.

        Raises:
            MemoryError: a frame does not fit into the decoder's memory.
        """
        scaler = Scaler(*self.probe.frame_size(), self.probe.quarter_turns)
        clock = Clock(self._is_avi(), int(self.probe.pts[0]), self._coverage.typical)
        with open_stream(self.path, self.probe.stream, self.threads) as (container, stream):
            frames = (
                (clock.time(frame), frame)
                for packet in self._packets(container, stream)
                for frame in self._decode(stream, packet)
            )
            for pts, frame in _in_order(frames):
                yield from self._take(pts, frame, scaler)
        yield from self._finish()

    def _is_avi(self) -> bool:
        return self.probe.info.container == "avi"

    def _packets(
        self, container: InputContainer, stream: VideoStream
    ) -> "Iterator[Packet[VideoStream] | None]":
        self._seek(container, stream)
        failures = 0
        packets = container.demux(stream)
        while failures < _READ_RETRIES:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                # Reading goes on behind the damage, unless it is the end.
                self._coverage.error()
                failures += 1
                packets = container.demux(stream)
                continue
            failures = 0
            if packet.is_corrupt or packet.pts in self.probe.losses:
                self._coverage.error()
            yield packet
        yield None

    def _seek(self, container: InputContainer, stream: VideoStream) -> None:
        """Start at the last keyframe before the frame to go on from, where seeking is exact."""
        if self._last is None or self.probe.info.container in {"avi", "mpegts"}:
            return
        before = int(np.searchsorted(self.probe.keyframes, self._last, side="right")) - 1
        if before > 0:
            container.seek(int(self.probe.keyframes[before]), stream=stream, backward=True)

    def _decode(
        self, stream: VideoStream, packet: "Packet[VideoStream] | None"
    ) -> list[VideoFrame]:
        failed = False
        frames: list[VideoFrame] = []
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            failed = True
        if self.log.grew() or failed:
            self._coverage.error()
            # FFmpeg calls a picture that it had no memory for damaged.
            _require_memory(2 * _PIXEL_BYTES * self.probe.info.width * self.probe.info.height)
        return frames

    def _take(self, pts: int, frame: VideoFrame, scaler: Scaler) -> Iterator[Item]:
        if self._last is not None and pts <= self._last:
            yield Passed(0)
            return
        if frame.is_corrupt:
            self._coverage.error()
            yield Passed(1)
            return
        missing = self._coverage.good(pts)
        self._last = pts
        if missing is not None:
            yield self._gap(*missing, cause="damaged")
        pts_ms = self.probe.milliseconds(pts)
        if self._is_wanted(pts, pts_ms, frame):
            yield Sampled(pts_ms, scaler.scale(frame))
        yield Passed(1)

    def _is_wanted(self, pts: int, pts_ms: float, frame: VideoFrame) -> bool:
        if self._chosen is not None:
            return pts in self._chosen
        return self._sampler.take(pts_ms, is_keyframe=self._is_keyframe(pts, frame))

    def _is_keyframe(self, pts: int, frame: VideoFrame) -> bool:
        # The packets of an AVI do not say when their pictures are shown.
        return bool(frame.key_frame) if self._is_avi() else pts in self._keyframes

    def _finish(self) -> Iterator[Item]:
        probe = self.probe
        missing = self._coverage.finish(round(probe.end_ms / 1000 / probe.time_base))
        promised = probe.promised_end_ms
        if promised is not None:
            start_ms = probe.milliseconds(missing[0]) if missing else probe.end_ms
            yield Gap(start_ms, promised, "truncated")
        elif missing is not None:
            yield self._gap(*missing, cause="damaged")

    def _gap(self, start: int, end: int, cause: str) -> Gap:
        return Gap(self.probe.milliseconds(start), self.probe.milliseconds(end), cause)

"""The tolerant backend: PyAV, packet by packet, telling which stretches are damaged."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.filter import Graph
from av.filter.context import FilterContext
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from inference.backends import ErrorLog, Item, Passed, Sampled
from inference.frames import Gap
from inference.probe import Probe, open_container
from inference.sampling import Sampler

_ERROR_REACH = 32
"""Frames for which an error is remembered: reordering and threads show its effect later."""
_READ_RETRIES = 8


@dataclass(slots=True)
class Scaler:
    """Makes upright working frames with the filter that decord uses: bicubic, to RGB."""

    width: int
    height: int
    quarter_turns: int
    _layout: tuple[object, ...] = ()
    _source: FilterContext | None = None
    _sink: FilterContext | None = None
    _graph: Graph | None = None

    def scale(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Return uint8 [height, width, 3]; a picture that changes its size is fitted in."""
        layout = (frame.width, frame.height, frame.format.name, frame.color_range, frame.colorspace)
        if layout != self._layout:
            self._configure(frame)
            self._layout = layout
        if self._graph is None:
            raise AssertionError("configured above")
        self._graph.push(frame)
        scaled = self._graph.pull()
        if not isinstance(scaled, VideoFrame):
            raise TypeError("the graph has one video sink")
        return np.rot90(scaled.to_ndarray(), self.quarter_turns)

    def _configure(self, frame: VideoFrame) -> None:
        width, height = self.width, self.height
        if self.quarter_turns % 2:
            width, height = height, width
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        )
        scale = graph.add("scale", f"{width}:{height}:flags=bicubic")
        rgb = graph.add("format", "rgb24")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(rgb)
        rgb.link_to(sink)
        graph.configure()
        self._graph = graph


@dataclass(slots=True)
class Coverage:
    """Compares the frames that came with those that were promised: what is missing is a gap."""

    expected: npt.NDArray[np.int64]
    """int64 [N], ascending: times of the frames to come; empty if the file does not say."""
    typical: int
    """The usual time between two frames."""
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
        if self._next < len(self.expected) and self.expected[self._next] < pts:
            return int(self.expected[self._next]), pts
        # A removed packet leaves no trace but an interval that is too long, next to an error.
        if self._last is not None and self.typical and 2 * (pts - self._last) > 3 * self.typical:
            return self._last + self.typical, pts
        return None


@dataclass(slots=True)
class _Clock:
    """Gives each decoded frame its presentation time."""

    by_decode_order: bool
    first_pts: int
    step: int
    _offset: int | None = None
    _last: int | None = None

    def time(self, frame: VideoFrame) -> int:
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


@dataclass(slots=True)
class Tolerant:
    """One tolerant pass over a file, from its start or from where decord had to stop."""

    path: Path
    probe: Probe
    sample_fps: float | None
    threads: int
    log: ErrorLog
    after_ms: float | None = None
    """Go on behind this frame; None: from the start."""
    _last: int | None = None
    _coverage: Coverage = field(init=False)
    _sampler: Sampler = field(init=False)
    _pending: deque[Gap] = field(default_factory=deque)

    def __post_init__(self) -> None:
        probe = self.probe
        typical = int(np.median(np.diff(probe.pts))) if len(probe.pts) > 1 else 0
        expected = probe.pts if probe.exact and not self._is_avi() else probe.pts[:0]
        self._coverage = Coverage(expected, typical)
        self._sampler = Sampler(self.sample_fps, probe.milliseconds(int(probe.pts[0])))
        if self.after_ms is not None:
            self._sampler.take(self.after_ms)
            position = int(np.searchsorted(probe.times_ms(), self.after_ms, side="right")) - 1
            self._last = int(probe.pts[position])
            self._coverage.start_after(self._last)

    def read(self) -> Iterator[Item]:
        """Yield sampled frames and gaps, in presentation order.

        Raises:
            MemoryError: a frame does not fit into the decoder's memory.
        """
        av.logging.restore_default_callback()
        av.logging.set_libav_level(av.logging.ERROR)
        scaler = Scaler(*self.probe.frame_size(), self.probe.quarter_turns)
        clock = _Clock(self._is_avi(), int(self.probe.pts[0]), self._coverage.typical)
        with open_container(self.path) as container:
            stream = container.streams[self.probe.stream]
            if not isinstance(stream, VideoStream):
                raise TypeError("the probe named a video stream")
            stream.codec_context.thread_count = self.threads
            stream.thread_type = "AUTO" if self.threads > 1 else "NONE"
            for packet in self._packets(container, stream):
                for frame in self._decode(stream, packet):
                    yield from self._take(frame, clock, scaler)
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
            if packet.is_corrupt:
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
        try:
            frames = stream.codec_context.decode(packet)
        except MemoryError:
            raise
        except av.error.FFmpegError:
            self._coverage.error()
            frames = []
        if self.log.grew():
            self._coverage.error()
        return frames

    def _take(self, frame: VideoFrame, clock: _Clock, scaler: Scaler) -> Iterator[Item]:
        pts = clock.time(frame)
        if self._last is not None and pts <= self._last:
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
        if self._sampler.take(pts_ms):
            yield Sampled(pts_ms, scaler.scale(frame))
        yield Passed(1)

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

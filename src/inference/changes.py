"""Finds between two frames of a file where the picture changes most: PyAV, every frame between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from inference.backends import ErrorLog, Item, Passed
from inference.containers import open_stream
from inference.probe import Probe
from inference.scaling import Scaler
from inference.wire import Changed

_ROUNDING_MS = 0.01
_HUE_STEP = 30.0
"""OpenCV's hue is half a turn's degrees: 180 of them, in six parts."""
Planes = npt.NDArray[np.float32]


def find_changes(
    path: Path,
    probe: Probe,
    spans: Sequence[tuple[float, float]],
    *,
    threads: int,
    log: ErrorLog,
) -> Iterator[Item | Changed]:
    """Yield for each span the frame that differs most from the one before it.

    A span is from one frame's time to a later one's, in milliseconds; they ascend and do not
    overlap. Nothing more comes once a frame of a span is amiss, and nothing at all of a file whose
    packets may hold other pictures than they promise.
    """
    if not probe.is_sound or not spans:
        return
    watch = _Watch(_as_pts(probe, spans), probe, Scaler(*probe.frame_size(), probe.quarter_turns))
    keyframes = probe.keyframes.tolist()
    following = dict(zip(keyframes, [*keyframes[1:], None], strict=True))
    group_end: int | None = None
    feeding = False
    with open_stream(path, probe.stream, threads) as (container, stream):
        try:
            for packet in container.demux(stream):
                if packet.pts in following:
                    group_end = following[packet.pts]
                    feeding = feeding or watch.begins_before(group_end)
                if feeding:
                    frames = stream.codec_context.decode(_sized(packet))
                    watch.check(is_damaged=log.grew())
                    yield from watch.look_at(frames)
                    if watch.is_done:
                        return
                    feeding = watch.begins_before(group_end)
                    if not feeding:
                        stream.codec_context.flush_buffers()
                yield Passed(0)
        except (av.error.FFmpegError, _MissingError):
            return


class _MissingError(Exception):
    """A frame of a span did not come, or not as it was."""


@dataclass(slots=True)
class _Watch:
    """Compares the consecutive frames of one span after the other."""

    spans: list[tuple[int, int]]
    """From which frame to which, in the stream's units."""
    probe: Probe
    scaler: Scaler
    number: int = 0
    before: Planes | None = None
    score: float = -1.0
    pts: int = 0
    """Of the frame that differs most so far, by `score`."""

    @property
    def is_done(self) -> bool:
        return self.number == len(self.spans)

    def begins_before(self, pts: int | None) -> bool:
        """Whether the span in work, or else the next one, begins before this time."""
        return pts is None or self.spans[self.number][0] < pts

    def check(self, *, is_damaged: bool) -> None:
        # Behind a jump, pictures that nobody asked for may lack what they refer to.
        if is_damaged and self.before is not None:
            raise _MissingError

    def look_at(self, frames: Sequence[VideoFrame]) -> Iterator[Changed]:
        for frame in frames:
            if self.is_done:
                return
            first, last = self.spans[self.number]
            if frame.pts is None or frame.pts < first:
                continue
            self._compare(frame, first)
            if frame.pts >= last:
                yield Changed(self.number, self.probe.milliseconds(self.pts), self.score)
                self.number, self.score = self.number + 1, -1.0
                if self.is_done or self.spans[self.number][0] != last:
                    self.before = None

    def _compare(self, frame: VideoFrame, first: int) -> None:
        if frame.is_corrupt or (self.before is None and frame.pts != first):
            raise _MissingError
        planes = _hsv(self.scaler.scale(frame))
        if self.before is not None and frame.pts is not None:
            score = float(np.abs(planes - self.before).mean())
            if score > self.score:
                self.score, self.pts = score, frame.pts
        self.before = planes


def _sized(packet: "Packet[VideoStream]") -> "Packet[VideoStream] | None":
    """The empty packet at the end makes the decoder give its rest."""
    return packet if packet.size else None


def _as_pts(probe: Probe, spans: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    times = probe.times_ms()
    at = np.searchsorted(times, np.array(spans) - _ROUNDING_MS)
    found = probe.pts[np.minimum(at, len(times) - 1)]
    return [(int(first), int(last)) for first, last in found]


def _hsv(pixels: npt.NDArray[np.uint8]) -> Planes:
    """Hue, saturation and value of uint8 [H, W, 3]: OpenCV's, not rounded; float32 [3, H, W]."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32), 2, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.maximum(spread, 1)
    sector = np.where(
        value == red,
        (green - blue) / divisor,
        np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = _HUE_STEP * np.where(sector < 0, sector + 6, sector)
    return np.stack((hue, 255 * spread / np.maximum(value, 1), value))

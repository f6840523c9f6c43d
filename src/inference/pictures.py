"""Finds the pictures of single moments of a file: PyAV, from the keyframe before each."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from inference.backends import Item, Passed, Sampled
from inference.containers import open_stream
from inference.moments import Moment
from inference.probe import Probe
from inference.scaling import Scaler
from inference.tolerant import Clock

_UNSEEKABLE = {"avi", "mpegts"}
"""Seeking is not exact there: they are decoded from their start on."""


def read_pictures(
    path: Path, probe: Probe, moments: Sequence[Moment], threads: int
) -> Iterator[Item]:
    """Yield the picture of each moment once, in presentation order; damaged ones are left out."""
    targets = plan_targets(probe, moments)
    scaler = Scaler(*probe.frame_size(), probe.quarter_turns)
    with open_stream(path, probe.stream, threads) as (container, stream):
        for keyframe, group in groupby(targets, lambda pts: _keyframe_before(probe, pts)):
            if keyframe is not None:
                container.seek(keyframe, stream=stream, backward=True)
            yield from _pick(_frames(container, stream, probe), list(group), probe, scaler)


def plan_targets(probe: Probe, moments: Sequence[Moment]) -> list[int]:
    """The times (pts, ascending) of the frames to show: a keyframe where one will do."""
    times, keyframes = probe.times_ms(), np.sort(probe.keyframes)
    keyframe_ms = np.array([probe.milliseconds(int(pts)) for pts in keyframes])
    found = set()
    for moment in moments:
        first, last = moment.leeway
        inside = keyframes[(first <= keyframe_ms) & (keyframe_ms <= last)]
        if len(inside):
            near = np.abs(keyframe_ms - moment.at_ms)[np.isin(keyframes, inside)]
            found.add(int(inside[int(np.argmin(near))]))
        else:
            # One more microsecond, because a time in milliseconds may be rounded down.
            shown = int(np.searchsorted(times, moment.at_ms + 1e-3, side="right")) - 1
            found.add(int(probe.pts[max(shown, 0)]))
    return sorted(found)


def _keyframe_before(probe: Probe, pts: int) -> int | None:
    """Where to seek for a frame; None: to the start of the file, without a seek."""
    if probe.info.container in _UNSEEKABLE:
        return None
    before = int(np.searchsorted(probe.keyframes, pts, side="right")) - 1
    return int(probe.keyframes[before]) if before > 0 else None


def _pick(
    frames: Iterator[tuple[int, VideoFrame] | None],
    targets: list[int],
    probe: Probe,
    scaler: Scaler,
) -> Iterator[Item]:
    for found in frames:
        if found is None:
            yield Passed(0)
            continue
        pts, frame = found
        while targets and targets[0] < pts:
            targets.pop(0)  # it did not come
        if targets and targets[0] == pts:
            targets.pop(0)
            yield Sampled(probe.milliseconds(pts), scaler.scale(frame))
        if not targets:
            return


def _frames(
    container: InputContainer, stream: VideoStream, probe: Probe
) -> Iterator[tuple[int, VideoFrame] | None]:
    """Yield the sound frames with their times, and None now and then to show that work goes on."""
    typical = int(np.median(np.diff(probe.pts))) if len(probe.pts) > 1 else 0
    clock = Clock(probe.info.container == "avi", int(probe.pts[0]), typical)
    try:
        for packet in container.demux(stream):
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                frames = []
            yield from ((clock.time(frame), frame) for frame in frames if not frame.is_corrupt)
            yield None
    except av.error.FFmpegError:
        return  # what is behind the damage is left out

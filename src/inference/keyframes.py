"""The keyframes backend: PyAV, decoding each keyframe by itself and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from inference.backends import DamageError, ErrorLog, Item, Passed, Sampled, Selection
from inference.containers import open_stream
from inference.probe import Probe
from inference.scaling import Scaler

_MOST = 0.95
"""Share of keyframes above which the other backends are as good."""


def plan_keyframes(probe: Probe, selection: Selection) -> bool:
    """Whether keyframes are wanted, and each can be decoded without what comes before it."""
    return selection.sample_fps == "keyframes" and stand_alone(probe)


def stand_alone(probe: Probe) -> bool:
    """Whether the keyframes are few, and each can be decoded without what comes before it."""
    if not probe.is_sound:
        return False
    if probe.references is not None:
        others = ~np.isin(probe.references.pts, probe.keyframes)
        if (probe.references.has_parameters & others).any():
            return False
    return len(probe.keyframes) < _MOST * len(probe.pts)


def read_keyframes(
    path: Path, probe: Probe, selection: Selection, *, threads: int, log: ErrorLog
) -> Iterator[Item]:
    """Yield the selected keyframes of an intact file.

    Raises:
        DamageError: a keyframe is not intact. What was yielded before is good.
    """
    scaler = Scaler(*probe.frame_size(), probe.quarter_turns)
    awaited = {int(probe.pts[at]): at for at in selection.indices(probe).tolist()}
    passed = selection.passed(probe.times_ms())
    with open_stream(path, probe.stream, threads) as (container, stream):
        for packet in _packets(container.demux(stream)):
            pts = packet.pts
            if pts is None or pts not in awaited:
                yield Passed(0)
                continue
            position = awaited.pop(pts)
            frame = _decode_alone(stream, packet, log)
            yield Sampled(probe.milliseconds(pts), scaler.scale(frame))
            yield Passed(position + 1 - passed)
            passed = position + 1
    if awaited:
        raise DamageError("a keyframe did not come")
    yield Passed(len(probe.pts) - passed)


def _packets(packets: "Iterator[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    try:
        yield from packets
    except av.error.FFmpegError as error:
        raise DamageError("the packets are not those that were probed") from error


def _decode_alone(stream: VideoStream, packet: "Packet[VideoStream]", log: ErrorLog) -> VideoFrame:
    """Decode one packet as if it were the whole file: nothing is late, nothing reaches over."""
    context = stream.codec_context
    try:
        frames = [*context.decode(packet), *context.decode(None)]
        context.flush_buffers()
    except av.error.FFmpegError as error:
        raise DamageError("errors while decoding") from error
    # Whichever is first to tell of damage.
    if log.grew() or len(frames) != 1 or frames[0].is_corrupt or frames[0].pts != packet.pts:
        raise DamageError("a keyframe cannot be decoded by itself")
    return frames[0]

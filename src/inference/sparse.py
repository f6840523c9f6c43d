"""The sparse backend: PyAV, decoding only the packets that the sampled frames need."""

from collections.abc import Iterator
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from inference.backends import DamageError, ErrorLog, Item, Passed, Sampled, Selection
from inference.containers import open_stream
from inference.probe import Probe
from inference.scaling import Scaler

_WORTHWHILE = 0.05
"""Share of packets left out below which decord is as good."""


def plan_packets(probe: Probe, selection: Selection) -> npt.NDArray[np.bool_] | None:
    """Return bool [N], the packets to decode in their order; None if it would be most of them."""
    if probe.references is None:
        return None
    needed = probe.references.needed(_wanted(probe, selection))
    return needed if 1 - needed.mean() >= _WORTHWHILE else None


def read_sparsely(
    path: Path,
    probe: Probe,
    selection: Selection,
    *,
    needed: npt.NDArray[np.bool_],
    threads: int,
    log: ErrorLog,
) -> Iterator[Item]:
    """Yield the selected frames of an intact file.

    Raises:
        DamageError: the file is not intact. What was yielded before is good.
    """
    scaler = Scaler(*probe.frame_size(), probe.quarter_turns)
    awaited: dict[int | None, int] = {
        int(probe.pts[at]): at for at in selection.indices(probe).tolist()
    }
    passed = selection.passed(probe.times_ms())
    with open_stream(path, probe.stream, threads) as (container, stream):
        for packet, is_needed in _plan(container.demux(stream), needed):
            for frame in _decode(stream, packet, log) if is_needed else []:
                position = awaited.pop(frame.pts, None)
                if position is not None:
                    yield Sampled(probe.milliseconds(int(probe.pts[position])), scaler.scale(frame))
                    yield Passed(position + 1 - passed)
                    passed = position + 1
            yield Passed(0)
    if awaited:
        raise DamageError("a frame did not come")
    yield Passed(len(probe.pts) - passed)


def _wanted(probe: Probe, selection: Selection) -> npt.NDArray[np.int64]:
    return probe.pts[selection.indices(probe)]


def _plan(
    packets: "Iterator[Packet[VideoStream]]", needed: npt.NDArray[np.bool_]
) -> "Iterator[tuple[Packet[VideoStream], bool]]":
    """Say which packets to decode; the empty one at the end makes the decoder give its rest."""
    try:
        yield from zip(packets, [*needed.tolist(), True], strict=True)
    except (av.error.FFmpegError, ValueError) as error:
        raise DamageError("the packets are not those that were probed") from error


def _decode(stream: VideoStream, packet: "Packet[VideoStream]", log: ErrorLog) -> list[VideoFrame]:
    try:
        frames = stream.codec_context.decode(packet)
    except av.error.FFmpegError as error:
        raise DamageError("errors while decoding") from error
    # Whichever is first to tell of damage.
    if log.grew() or any(frame.is_corrupt for frame in frames):
        raise DamageError("errors while decoding")
    return frames

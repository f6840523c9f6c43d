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

_WORTHWHILE = 0.1
"""Share of packets left out below which decord, which decodes all of them, is as good."""


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
    wanted = iter(_wanted(probe, selection).tolist())
    awaited = next(wanted, None)
    with open_stream(path, probe.stream, threads) as (container, stream):
        for packet, is_needed in _plan(container.demux(stream), needed):
            for frame in _decode(stream, packet) if is_needed else []:
                if awaited is not None and frame.pts == awaited:
                    yield Sampled(probe.milliseconds(awaited), scaler.scale(frame))
                    awaited = next(wanted, None)
            if log.grew():
                raise DamageError("errors while decoding")
            yield Passed(1 if packet.size else 0)
    if awaited is not None:
        raise DamageError("a frame did not come")


def _wanted(probe: Probe, selection: Selection) -> npt.NDArray[np.int64]:
    return probe.pts[selection.indices(probe.times_ms())]


def _plan(
    packets: "Iterator[Packet[VideoStream]]", needed: npt.NDArray[np.bool_]
) -> "Iterator[tuple[Packet[VideoStream], bool]]":
    """Say which packets to decode; the empty one at the end makes the decoder give its rest."""
    try:
        yield from zip(packets, [*needed.tolist(), True], strict=True)
    except (av.error.FFmpegError, ValueError) as error:
        raise DamageError("the packets are not those that were probed") from error


def _decode(stream: VideoStream, packet: "Packet[VideoStream]") -> list[VideoFrame]:
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError as error:
        raise DamageError("errors while decoding") from error

"""One pass over the packets of a video stream, and what it notes of them."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from inference.frames import working_size
from inference.h264 import Picture, Pictures
from inference.scaling import Scaler

_TICK_PACKETS = 4096


@dataclass(slots=True)
class Scan:
    """What is noted decides how the file may be decoded."""

    container: InputContainer
    stream: VideoStream
    frame_side: int
    pts: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    keyframes: "array[int]" = field(default_factory=lambda: array("q"))
    packets: int = 0
    discarded: int = 0
    corrupt: int = 0
    untimed: int = 0
    starts_with_keyframe: bool = True
    end: int = 0
    """Latest end of a video packet, in time base units."""
    other_end_ms: float = -np.inf
    turns: int | None = None
    size: tuple[int, int] = (0, 0)
    first_picture: npt.NDArray[np.uint8] | None = None
    h264: Pictures | None = None
    false_keyframes: int = 0
    fields: int = 0
    changes: int = 0
    """Packets that come with other parameters than the file began with."""
    latest: int | None = None
    reordered: int = 0
    """Pictures that come behind one that is shown later."""
    leading: int = 0
    """Pictures shown before the keyframe that they come behind: their group is open."""
    is_reference: bytearray = field(default_factory=bytearray)
    is_idr: bytearray = field(default_factory=bytearray)
    has_parameters: bytearray = field(default_factory=bytearray)
    losses: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.is_codec("h264"):
            configuration = self.stream.codec_context.extradata or b""
            self.h264 = Pictures.from_configuration(configuration)

    def run(self, tick: Callable[[], None]) -> None:
        """Read every packet; `tick` is called now and then."""
        for number, packet in enumerate(self._packets()):
            if number % _TICK_PACKETS == 0:
                tick()
            if packet.stream is self.stream:
                self._note(packet)
            elif packet.pts is not None and packet.time_base is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base * 1000)
                self.other_end_ms = max(self.other_end_ms, end)

    def _packets(self) -> "Iterator[Packet[Stream]]":
        # Only Matroska without per-track durations needs the other streams to tell whether the
        # file is cut short; everywhere else they would be parsed for nothing.
        matroska = "matroska" in self.container.format.name
        every = matroska and "DURATION" not in self.stream.metadata
        packets = self.container.demux(*([] if every else [self.stream]))
        # Demuxing may end in an error where the file is cut; what came before it counts.
        with suppress(av.error.InvalidDataError, av.error.EOFError):
            yield from (packet for packet in packets if packet.size)

    def _note(self, packet: "Packet[Stream]") -> None:
        self._look(packet)
        self.packets += 1
        self.corrupt += packet.is_corrupt
        if self.packets == 1:
            self.starts_with_keyframe = packet.is_keyframe
        if packet.is_discard:
            self.discarded += 1
            return
        pts = packet.pts if packet.pts is not None else packet.dts
        self.untimed += packet.pts is None
        if pts is None:
            return
        if not self.pts or pts + (packet.duration or 0) > self.end:
            self.end = pts + (packet.duration or 0)
        self.changes += packet.has_sidedata("new_extradata")
        self.leading += bool(self.keyframes) and pts < self.keyframes[-1]
        self.reordered += self.latest is not None and pts < self.latest
        self.latest = pts if self.latest is None else max(self.latest, pts)
        self.pts.append(pts)
        self.sizes.append(packet.size)
        is_keyframe = packet.is_keyframe
        if self.h264 is not None:
            picture = self.h264.read(memoryview(packet))
            self._note_picture(picture, pts)
            is_keyframe = packet.is_keyframe and picture.is_intra
            self.false_keyframes += packet.is_keyframe and not is_keyframe
        if is_keyframe:
            self.keyframes.append(pts)

    def _note_picture(self, picture: Picture, pts: int) -> None:
        self.fields += picture.is_field
        if not picture.follows:
            self.losses.add(pts)
        self.is_reference.append(picture.is_reference)
        self.is_idr.append(picture.is_idr)
        self.has_parameters.append(picture.has_parameters)

    def _look(self, packet: "Packet[Stream]") -> None:
        """Decode up to the first picture: only it knows its rotation for sure."""
        if self.turns is not None or self.packets > 64:
            return
        with suppress(av.error.InvalidDataError):
            for frame in self.stream.decode(packet):
                self.turns = round(frame.rotation / 90) % 4
                self.size = (frame.width, frame.height)
                size = working_size(*self.size, self.turns, self.frame_side)
                scaler = Scaler(*size, self.turns)
                self.first_picture = scaler.scale(frame)
                return

    def is_codec(self, name: str) -> bool:
        """Tell whether the stream is coded by it, in FFmpeg's words."""
        return self.stream.codec_context.codec.canonical_name == name

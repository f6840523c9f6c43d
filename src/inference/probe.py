"""Reads what a file is and when each of its frames is shown, without decoding more than one.

Runs in the decoder's process: a parser of strangers' files has no place in the service.
"""

import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from inference.containers import admit_container, admit_stream
from inference.errors import VideoRejectedError
from inference.frames import LONG_SIDE, VideoInfo, fit
from inference.h264 import Picture, Pictures
from inference.references import References
from inference.scaling import Scaler

_TICK_PACKETS = 4096
_DECORD_FILE_BYTES = 32 << 20
"""decord keeps all packets that it has read ahead in memory, up to the whole file."""
_UNNOTICED = "lost pictures could not be noticed"


@dataclass(frozen=True, slots=True)
class Probe:
    """What the packets of a file's video stream say."""

    info: VideoInfo
    frame_side: int
    """Pixels of the longer side within which the working frames are."""
    stream: int
    """Index of the video stream in the container."""
    time_base: Fraction
    pts: npt.NDArray[np.int64]
    """int64 [N], ascending: when each presentable packet is shown, in units of `time_base`."""
    sizes: npt.NDArray[np.int64]
    """int64 [N]: the bytes of these packets."""
    keyframes: npt.NDArray[np.int64]
    """int64 [K], ascending: the same for the packets that decoding can start at."""
    end_ms: float
    """End of the last frame that is in the file."""
    promised_end_ms: float | None
    """End that the header promises, if packets are missing before it."""
    quarter_turns: int
    """Counter-clockwise turns that make the picture upright."""
    first_picture: npt.NDArray[np.uint8] | None
    """uint8 [H, W, 3]: the first frame at working size, where decoding it is that simple."""
    is_sound: bool
    """Its packets tell when each picture is shown, as those of an AVI do not, and nothing says that
    they hold other pictures than they promise, lost ones aside."""
    exact: bool
    """`pts` are complete and distinct: a frame that does not come is missing."""
    losses: frozenset[int]
    """Times of the pictures before which others are known to have been lost."""
    references: References | None
    """Which pictures can be left out, if all of them are known to be there and in order."""
    tolerant_because: str
    """Why only the tolerant backend can be trusted with every frame of it; empty if any can."""

    def milliseconds(self, pts: int) -> float:
        """Convert a time of the stream to milliseconds."""
        return pts * self.time_base.numerator * 1000 / self.time_base.denominator

    def times_ms(self) -> npt.NDArray[np.float64]:
        """Return `pts` in milliseconds, float64 [N], equal to `milliseconds` of each."""
        return self.pts * (self.time_base.numerator * 1000) / self.time_base.denominator

    def frame_size(self) -> tuple[int, int]:
        """Width and height of the upright working frame: even, never enlarged."""
        return working_size(self.info.width, self.info.height, self.quarter_turns, self.frame_side)


def working_size(
    width: int, height: int, quarter_turns: int, side: int = LONG_SIDE
) -> tuple[int, int]:
    """See `Probe.frame_size`; `side` is the longer one, at most."""
    if quarter_turns % 2:
        width, height = height, width
    return fit(width, height, side)


def probe(
    path: Path, max_seconds: float, tick: Callable[[], None], frame_side: int = LONG_SIDE
) -> Probe:
    """Read the headers and every packet of the video stream.

    `tick` is called now and then, so that a long file shows that it advances.

    Raises:
        VideoRejectedError: the file cannot be analysed; the reason says why.
    """
    with admit_container(path) as container:
        stream = admit_stream(container)
        stream.codec_context.thread_count = 1
        header_seconds = (container.duration or 0) / av.time_base
        if "matroska" in container.format.name:  # there it is the time of the end
            header_seconds -= (container.start_time or 0) / av.time_base
        if header_seconds > max_seconds:
            raise VideoRejectedError(
                "too_long", f"{header_seconds:.1f} s, at most {max_seconds:g} s are allowed"
            )
        scan = _Scan(container, stream, max_seconds, frame_side)
        scan.run(tick)
        return scan.conclude()


def _tag_ms(tag: str) -> float | None:
    """Read Matroska's DURATION tag, `00:00:05.000000000`."""
    match = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d\.\d{1,9})", tag)
    if match is None:
        return None
    return (int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])) * 1000


@dataclass(slots=True)
class _Scan:
    """One pass over the packets; what it notes decides how the file may be decoded."""

    container: InputContainer
    stream: VideoStream
    max_seconds: float
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
        if self._is("h264"):
            configuration = self.stream.codec_context.extradata or b""
            self.h264 = Pictures.from_configuration(configuration)

    def run(self, tick: Callable[[], None]) -> None:
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

    def conclude(self) -> Probe:
        context, base = self.stream.codec_context, self.stream.time_base or Fraction(1)
        width, height = context.width or self.size[0], context.height or self.size[1]
        if not self.pts or not width or not height:
            raise VideoRejectedError("not_a_video", "the video stream has no frames")
        pts = np.frombuffer(self.pts, dtype=np.int64)
        order = np.argsort(pts, kind="stable")
        pts = pts[order]
        # Files that state no duration for the last packet still show it for one interval.
        typical = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
        end_ms = float(max(self.end, int(pts[-1]) + typical) * base * 1000)
        start_ms = float(int(pts[0]) * base * 1000)
        promised = self._promised_end_ms(end_ms, typical)
        span = (max(end_ms, promised or end_ms) - start_ms) / 1000
        if span > self.max_seconds + 0.001:
            raise VideoRejectedError(
                "too_long", f"{span:.1f} s, at most {self.max_seconds:g} s are allowed"
            )
        distinct = len(pts) < 2 or bool((np.diff(pts) > 0).all())
        doubts = self._doubts(pts, distinct=distinct, is_cut=promised is not None)
        info = VideoInfo(
            container=self.container.format.name,
            codec=context.codec.canonical_name,
            width=width,
            height=height,
            fps=self._rate(pts, end_ms - start_ms),
            duration_seconds=span,
            frames=max(self.stream.frames if self._counts_frames() else 0, len(pts)),
        )
        return Probe(
            info=info,
            frame_side=self.frame_side,
            stream=self.stream.index,
            time_base=base,
            pts=pts,
            sizes=np.frombuffer(self.sizes, dtype=np.int64)[order],
            keyframes=np.sort(np.frombuffer(self.keyframes, dtype=np.int64)),
            end_ms=end_ms,
            promised_end_ms=promised,
            quarter_turns=self.turns or 0,
            first_picture=self.first_picture,
            is_sound=not {*doubts} - {_UNNOTICED} and self.container.format.name != "avi",
            exact=distinct and not self.untimed,
            losses=frozenset(self.losses),
            references=None if doubts else self._references(),
            tolerant_because="; ".join([*doubts, *self._beyond_decord()]),
        )

    def _is(self, codec: str) -> bool:
        return self.stream.codec_context.codec.canonical_name == codec

    def _rate(self, pts: npt.NDArray[np.int64], milliseconds: float) -> float:
        if milliseconds > 0:
            return len(pts) * 1000 / milliseconds
        return float(self.stream.average_rate or 1)

    def _counts_frames(self) -> bool:
        # AVI counts ticks of its time base there, which may be many to a frame.
        return "mov" in self.container.format.name

    def _promised_end_ms(self, end_ms: float, typical: int) -> float | None:
        """Read the end that the header states, and believe it only if packets are missing."""
        base = self.stream.time_base or Fraction(1)
        name, tag = self.container.format.name, self.stream.metadata.get("DURATION")
        slack_ms = max(100.0, float(2 * typical * base * 1000))
        promised = end_ms
        if "mov" in name and self.stream.frames > self.packets and self.stream.duration:
            promised = float(((self.stream.start_time or 0) + self.stream.duration) * base * 1000)
            slack_ms = 0.0
        elif "avi" in name and self.stream.frames:
            promised = float(((self.stream.start_time or 0) + self.stream.frames) * base * 1000)
        elif "matroska" in name and tag:
            promised = _tag_ms(tag) or end_ms
        elif "matroska" in name and self.container.duration:
            header_ms = self.container.duration * 1000 / av.time_base
            cut = header_ms - max(end_ms, self.other_end_ms) > slack_ms
            promised = header_ms if cut else end_ms
        return promised if promised - end_ms > slack_ms else None

    def _references(self) -> References | None:
        if self.h264 is None:
            return None
        marks = (self.is_reference, self.is_idr, self.has_parameters)
        return References(
            np.frombuffer(self.pts, np.int64), *(np.frombuffer(mark, np.bool_) for mark in marks)
        )

    def _doubts(self, pts: npt.NDArray[np.int64], *, distinct: bool, is_cut: bool) -> list[str]:
        """Tell why the file may hold other pictures than its packets promise."""
        reasons = {
            "the header promises more than there is": is_cut,
            "pictures were lost before the file was written": bool(self.losses),
            _UNNOTICED: self._is("h264") and self.h264 is None,
            "an edit list discards packets": self.discarded > 0,
            "its parameters change on the way": self.changes > 0,
            "pictures are coded as fields": self.fields > 0,
            "packets are marked as damaged": self.corrupt > 0,
            "packets carry no presentation time": self.untimed > 0,
            "packets share a presentation time": not distinct,
            "decoding cannot start at the first packet": not self.starts_with_keyframe
            or not self.keyframes
            or min(self.keyframes) > pts[0],
            "there is more than one video stream": len(self.container.streams.video) > 1,
            "the first picture cannot be decoded": self.turns is None,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def _beyond_decord(self) -> list[str]:
        """Tell why decord cannot be used, although nothing may be wrong with the file."""
        reasons = {
            "decord may lose the beginning of a transport stream": "mpegts"
            in self.container.format.name,
            "the file is too large for decord's memory": self.container.size > _DECORD_FILE_BYTES,
            "decord gives other pictures where groups are open": self.leading > 0,
            "decord stumbles over HEVC whose pictures are reordered": self._is("hevc")
            and self.reordered > 0,
            "decoding cannot start at all keyframes": self.false_keyframes > 0,
            "the picture is rotated": bool(self.turns),
        }
        return [reason for reason, holds in reasons.items() if holds]

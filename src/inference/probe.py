"""Reads what a file is and when each of its frames is shown, without decoding more than one.

Runs in the decoder's process: a parser of strangers' files has no place in the service.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from inference.containers import admit_container, admit_stream
from inference.errors import VideoRejectedError
from inference.frames import LONG_SIDE, VideoInfo, working_size
from inference.references import References
from inference.scan import Scan

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
        scan = Scan(container, stream, frame_side)
        scan.run(tick)
        return _conclude(scan, max_seconds)


def _conclude(scan: Scan, max_seconds: float) -> Probe:
    context, base = scan.stream.codec_context, scan.stream.time_base or Fraction(1)
    width, height = context.width or scan.size[0], context.height or scan.size[1]
    if not scan.pts or not width or not height:
        raise VideoRejectedError("not_a_video", "the video stream has no frames")
    pts = np.frombuffer(scan.pts, dtype=np.int64)
    order = np.argsort(pts, kind="stable")
    pts = pts[order]
    # Files that state no duration for the last packet still show it for one interval.
    typical = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    end_ms = float(max(scan.end, int(pts[-1]) + typical) * base * 1000)
    start_ms = float(int(pts[0]) * base * 1000)
    promised = _promised_end_ms(scan, end_ms, typical)
    span = (max(end_ms, promised or end_ms) - start_ms) / 1000
    if span > max_seconds + 0.001:
        raise VideoRejectedError("too_long", f"{span:.1f} s, at most {max_seconds:g} s are allowed")
    distinct = len(pts) < 2 or bool((np.diff(pts) > 0).all())
    doubts = _doubts(scan, pts, distinct=distinct, is_cut=promised is not None)
    info = VideoInfo(
        container=scan.container.format.name,
        codec=context.codec.canonical_name,
        width=width,
        height=height,
        fps=_rate(scan, pts, end_ms - start_ms),
        duration_seconds=span,
        frames=max(scan.stream.frames if _counts_frames(scan) else 0, len(pts)),
    )
    return Probe(
        info=info,
        frame_side=scan.frame_side,
        stream=scan.stream.index,
        time_base=base,
        pts=pts,
        sizes=np.frombuffer(scan.sizes, dtype=np.int64)[order],
        keyframes=np.sort(np.frombuffer(scan.keyframes, dtype=np.int64)),
        end_ms=end_ms,
        promised_end_ms=promised,
        quarter_turns=scan.turns or 0,
        first_picture=scan.first_picture,
        is_sound=not {*doubts} - {_UNNOTICED} and scan.container.format.name != "avi",
        exact=distinct and not scan.untimed,
        losses=frozenset(scan.losses),
        references=None if doubts else _references(scan),
        tolerant_because="; ".join([*doubts, *_beyond_decord(scan)]),
    )


def _tag_ms(tag: str) -> float | None:
    """Read Matroska's DURATION tag, `00:00:05.000000000`."""
    match = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d\.\d{1,9})", tag)
    if match is None:
        return None
    return (int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])) * 1000


def _rate(scan: Scan, pts: npt.NDArray[np.int64], milliseconds: float) -> float:
    if milliseconds > 0:
        return len(pts) * 1000 / milliseconds
    return float(scan.stream.average_rate or 1)


def _counts_frames(scan: Scan) -> bool:
    # AVI counts ticks of its time base there, which may be many to a frame.
    return "mov" in scan.container.format.name


def _promised_end_ms(scan: Scan, end_ms: float, typical: int) -> float | None:
    """Read the end that the header states, and believe it only if packets are missing."""
    base = scan.stream.time_base or Fraction(1)
    name, tag = scan.container.format.name, scan.stream.metadata.get("DURATION")
    slack_ms = max(100.0, float(2 * typical * base * 1000))
    promised = end_ms
    if "mov" in name and scan.stream.frames > scan.packets and scan.stream.duration:
        promised = float(((scan.stream.start_time or 0) + scan.stream.duration) * base * 1000)
        slack_ms = 0.0
    elif "avi" in name and scan.stream.frames:
        promised = float(((scan.stream.start_time or 0) + scan.stream.frames) * base * 1000)
    elif "matroska" in name and tag:
        promised = _tag_ms(tag) or end_ms
    elif "matroska" in name and scan.container.duration:
        header_ms = scan.container.duration * 1000 / av.time_base
        cut = header_ms - max(end_ms, scan.other_end_ms) > slack_ms
        promised = header_ms if cut else end_ms
    return promised if promised - end_ms > slack_ms else None


def _references(scan: Scan) -> References | None:
    if scan.h264 is None:
        return None
    marks = (scan.is_reference, scan.is_idr, scan.has_parameters)
    return References(
        np.frombuffer(scan.pts, np.int64), *(np.frombuffer(mark, np.bool_) for mark in marks)
    )


def _doubts(scan: Scan, pts: npt.NDArray[np.int64], *, distinct: bool, is_cut: bool) -> list[str]:
    """Tell why the file may hold other pictures than its packets promise."""
    reasons = {
        "the header promises more than there is": is_cut,
        "pictures were lost before the file was written": bool(scan.losses),
        _UNNOTICED: scan.is_codec("h264") and scan.h264 is None,
        "an edit list discards packets": scan.discarded > 0,
        "its parameters change on the way": scan.changes > 0,
        "pictures are coded as fields": scan.fields > 0,
        "packets are marked as damaged": scan.corrupt > 0,
        "packets carry no presentation time": scan.untimed > 0,
        "packets share a presentation time": not distinct,
        "decoding cannot start at the first packet": not scan.starts_with_keyframe
        or not scan.keyframes
        or min(scan.keyframes) > pts[0],
        "there is more than one video stream": len(scan.container.streams.video) > 1,
        "the first picture cannot be decoded": scan.turns is None,
    }
    return [reason for reason, holds in reasons.items() if holds]


def _beyond_decord(scan: Scan) -> list[str]:
    """Tell why decord cannot be used, although nothing may be wrong with the file."""
    reasons = {
        "decord may lose the beginning of a transport stream": "mpegts"
        in scan.container.format.name,
        "the file is too large for decord's memory": scan.container.size > _DECORD_FILE_BYTES,
        "decord gives other pictures where groups are open": scan.leading > 0,
        "decord stumbles over HEVC whose pictures are reordered": scan.is_codec("hevc")
        and scan.reordered > 0,
        "decoding cannot start at all keyframes": scan.false_keyframes > 0,
        "the picture is rotated": bool(scan.turns),
    }
    return [reason for reason, holds in reasons.items() if holds]

"""What the processes say to each other: JSON lines, and JSON headers followed by raw arrays.

Never pickle: the decoder's side of the pipe has read a hostile file.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.frames import Gap, VideoInfo
from inference.sampling import Rate

MAX_LINE_BYTES = 1 << 20
MAX_TEXT = 500
_DTYPES = frozenset({"bool", "uint8", "int32", "int64", "float32", "float64"})
_REASONS = frozenset({"not_a_video", "no_video_stream", "unsupported_codec", "too_long"})
_CAUSES = frozenset({"damaged", "truncated"})


class WireError(Exception):
    """The other side said something that the protocol does not contain."""


DECODER_NAME = "poller-decoder"
"""What `ps` and `top` call a decoder process."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the parent asks of a decoder; travels as JSON."""

    path: str
    slab_count: int
    slab_bytes: int
    batch_size: int
    frame_side: int
    """Of the frames, the longer side, at most; pixels."""
    sample_fps: Rate
    after_ms: float | None
    """Go on behind this frame; None: from the start."""
    max_seconds: float
    cpu_seconds: int
    memory_bytes: int
    threads: int
    tolerant: bool
    """Use the backend that trusts nothing, because another has failed before."""
    moments: Sequence[tuple[float, float, float]] | None = None
    """Show these, each as (at, from, to) in milliseconds, instead of a sample; see `moments`."""
    spans: Sequence[tuple[float, float]] | None = None
    """Tell where in these the picture changes most, instead of a sample; see `changes`."""

    def to_json(self) -> str:
        """Encode for the fork server."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class DeviceOrder:
    """What the parent asks of a device process; travels as JSON in an argument."""

    device: str
    parent: int
    threads: int
    bundle: str | None = None
    """Directory of the models' bundle; None: what is built in, alone."""
    batch_size: int | None = None
    """Frames in one batch of the models; None: what suits the device."""
    batch_wait_ms: float = 15.0
    """How long a frame may wait for others to fill its batch."""
    alone_batches: int = 0
    """So many batches at first are of one video each: another fault must find its video."""

    def to_json(self) -> str:
        """Encode for the command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Opened:
    """The probe accepted the file; frames of `width` x `height` will follow."""

    info: VideoInfo
    width: int
    height: int
    backend: str
    """`decord`, `sparse`, `keyframes` or `tolerant`; `pictures` or `changes` where those were
    asked for."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A slab holds the frames with these presentation times."""

    slab: int
    pts_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing to hand over yet; `decoded` source frames are done so far."""

    decoded: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything was said; `seconds` is the time spent decoding, waits for slabs left out."""

    decoded: int
    seconds: float
    end_ms: float
    backend: str
    cpu_seconds: float
    """Of the process and its threads, from its fork on."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The probe refused the file for good."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The decoder ran into its memory limit and noticed it."""

    detail: str


@dataclass(frozen=True, slots=True)
class Changed:
    """In a span, the frame shown at this time differs most from the one before it."""

    span: int
    """Its number in the order."""
    at_ms: float
    score: float
    """Mean absolute difference of hue, saturation and value, 0..255."""


Message = Opened | Filled | Alive | Changed | Finished | Rejected | OutOfMemory | Gap
_KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Opened, Filled, Alive, Changed, Finished, Rejected, OutOfMemory, Gap)
}


def write_line(message: Message) -> bytes:
    """Encode one message of a decoder as one line."""
    body = {field.name: getattr(message, field.name) for field in fields(message)}
    if isinstance(message, Opened):
        info = message.info
        body["info"] = {field.name: getattr(info, field.name) for field in fields(info)}
    return json.dumps({"kind": type(message).__name__.lower(), **body}).encode() + b"\n"


def parse_line(line: bytes) -> Message:
    """Decode and check one line of a decoder.

    Raises:
        WireError: it is no message, or a value has the wrong type or is out of its range.
    """
    try:
        body = json.loads(line)
        kind = _KINDS[body.pop("kind")]
        if kind is Opened:
            body["info"] = VideoInfo(**body["info"])
        if kind is Filled:
            body["pts_ms"] = tuple(body["pts_ms"])
        message = kind(**body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WireError(f"no message: {line[:80]!r}") from error
    _check_types(message)
    _check_values(message)
    return message


def _check_types(message: Message | VideoInfo) -> None:
    for field in fields(message):
        value = getattr(message, field.name)
        if field.name == "info":
            _check_types(value)
        elif field.name == "pts_ms":
            numbers = len(value) > 0 and all(map(_is_finite, value))
            if not (numbers and all(a < b for a, b in pairwise(value))):
                raise WireError("frame times must be ascending numbers")
        elif field.type is str:
            if not (isinstance(value, str) and len(value) <= MAX_TEXT):
                raise WireError(f"{field.name} must be a short text")
        elif not _is_finite(value) or (field.type is int and not isinstance(value, int)):
            raise WireError(f"{field.name} must be a finite number, not {value!r}")


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**53  # also not infinite, and NaN is less than nothing


def _check_values(message: Message) -> None:
    if isinstance(message, Rejected) and message.reason not in _REASONS:
        raise WireError(f"unknown reason {message.reason!r}")
    if isinstance(message, Gap) and (
        message.cause not in _CAUSES or message.end_ms < message.start_ms
    ):
        raise WireError(f"impossible gap {message}")
    if isinstance(message, Finished) and message.cpu_seconds < 0:
        raise WireError(f"impossible CPU time {message.cpu_seconds}")
    if isinstance(message, Opened) and min(message.width, message.height) < 1:
        raise WireError(f"impossible frame size {message.width}x{message.height}")


def clean_text(text: str) -> str:
    """Make a foreign text safe to send, to log and to store: one short printable line."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:MAX_TEXT]


Arrays = Mapping[str, npt.NDArray[Any]]


def pack(header: Mapping[str, object], arrays: Arrays) -> list[bytes]:
    """Frame a message with arrays: 4-byte length, JSON header, then each array's bytes.

    Raises:
        WireError: an array's dtype is not one of the few that travel.
    """
    described: list[tuple[str, str, Sequence[int]]] = []
    parts: list[bytes] = []
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise WireError(f"{name} is {array.dtype}, which does not travel")
        described.append((name, array.dtype.name, array.shape))
        parts.append(np.ascontiguousarray(array).tobytes())
    text = json.dumps({**header, "arrays": described}).encode()
    return [len(text).to_bytes(4, "big"), text, *parts]


def unpack_header(text: bytes) -> tuple[dict[str, Any], int]:
    """Read a header; return it and the number of array bytes that follow it.

    Raises:
        WireError: it is no header, or describes arrays that do not travel.
    """
    try:
        header = json.loads(text)
        size = sum(_array_bytes(dtype, shape) for _, dtype, shape in header["arrays"])
    except (ValueError, TypeError, KeyError) as error:
        raise WireError(f"no header: {text[:80]!r}") from error
    return header, size


def read_arrays(header: Mapping[str, Any], body: bytes | memoryview) -> dict[str, npt.NDArray[Any]]:
    """Cut the bytes after a header into its arrays (read-only views of `body`)."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for name, dtype, shape in header["arrays"]:
        flat = np.frombuffer(body, dtype=dtype, count=math.prod(shape), offset=offset)
        arrays[name] = flat.reshape(shape)
        offset += _array_bytes(dtype, shape)
    return arrays


def _array_bytes(dtype: str, shape: Sequence[int]) -> int:
    if dtype not in _DTYPES or any(not isinstance(n, int) or n < 0 for n in shape):
        raise WireError(f"no array: {dtype} {shape}")
    return int(np.dtype(dtype).itemsize * math.prod(shape))

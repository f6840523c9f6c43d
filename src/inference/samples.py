"""Sample videos, made on the spot by a real encoder, with what an analysis must find in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

Picture = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""

WIDTH, HEIGHT = 640, 360
FPS = 24
_MARGIN = 96
"""Pixels by which a scene is larger than the picture: the room for a camera to pan."""
_MILLISECOND = Fraction(1, 1000)
_SETTLE_MS = 250
"""One sampling interval at 5 frames per second, and a frame."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An event that an analysis must find; each end may be off by `tolerance_ms`."""

    event_type: str
    start_ms: int
    end_ms: int
    tolerance_ms: int = _SETTLE_MS


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and the truth about it."""

    name: str
    path: Path
    expected: tuple[Expected, ...] = ()
    rejected: str | None = None
    """The reason for which the file must be refused, if it is no video."""


def make_samples(directory: Path) -> tuple[Sample, ...]:
    """Write the sample videos into `directory`; those that are there already are kept."""
    return tuple(
        _make(directory / name, build, expected, rejected)
        for name, build, expected, rejected in (
            ("cuts.mp4", _cuts, _shots(0, 2000, 4000, 6000, 8000, 10000), None),
            ("black.mp4", _black, (Expected("black", 3000, 6000),), None),
            ("freeze.mp4", _freeze, (Expected("freeze", 3000, 6000),), None),
            ("motion.mp4", _motion, (Expected("motion", 3000, 7000, 1000),), None),
            ("variable.mp4", _variable, _shots(0, 2350, 4990, 7000), None),
            ("late.ts", _late, _shots(10000, 12000, 14000), None),
            ("damaged.mp4", _damaged, (Expected("decode_gap", 4000, 5000, 600),), None),
            ("not_a_video.mp4", _text, (), "not_a_video"),
        )
    )


def _make(
    path: Path, build: Callable[[Path], None], expected: tuple[Expected, ...], rejected: str | None
) -> Sample:
    if not path.exists():
        # Renamed when complete: a run that is interrupted must not leave half a sample.
        unfinished = path.with_stem(f"{path.stem}.unfinished")
        build(unfinished)
        unfinished.rename(path)
    return Sample(path.stem, path, expected, rejected)


def _shots(*boundaries_ms: int) -> tuple[Expected, ...]:
    return tuple(Expected("shot", start, end) for start, end in pairwise(boundaries_ms))


def write_video(
    path: Path,
    frames: Iterable[tuple[int, Picture]],
    *,
    codec: str = "libx264",
    time_base: Fraction = Fraction(1, FPS),
    fps: Fraction = Fraction(FPS),
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> None:
    """Encode frames, each with its time in `time_base`, into the container that `path` names."""
    frames = iter(frames)
    first_pts, first = next(frames)
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or _X264))
        if not isinstance(stream, VideoStream):
            raise TypeError(f"{codec} is no video codec")
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        # More threads would make the bytes depend on the machine.
        stream.codec_context.thread_count = 1
        for pts, picture in ((first_pts, first), *frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


_X264 = {"preset": "veryfast", "crf": "21", "g": str(2 * FPS)}


def paint_scene(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """Paint a colourful texture with some shapes in it, larger than `width` x `height`."""
    random = np.random.default_rng(seed)
    tall, wide = height + _MARGIN, width + _MARGIN
    y, x = np.mgrid[0:tall, 0:wide].astype(np.float32)
    base = random.uniform(30, 225, 3)
    picture = np.empty((tall, wide, 3), np.float32)
    for channel in range(3):
        waves = np.zeros((tall, wide), np.float32)
        for _ in range(4):
            fx, fy = random.uniform(-0.06, 0.06, 2)
            waves += np.sin(x * fx + y * fy + random.uniform(0, 6.3))
        picture[..., channel] = base[channel] + 18 * waves
    for _ in range(9):
        _paint_disc(picture, random, x, y)
    return picture.clip(0, 255).astype(np.uint8)


def _paint_disc(
    picture: npt.NDArray[np.float32],
    random: np.random.Generator,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
) -> None:
    tall, wide = picture.shape[:2]
    center_x, center_y = random.uniform(0, wide), random.uniform(0, tall)
    radius = random.uniform(0.06, 0.2) * tall
    distance = np.hypot(x - center_x, (y - center_y) * random.uniform(0.6, 1.6))
    inside = np.clip(radius - distance, 0, 1)[..., None]
    shade = random.uniform(0, 255, 3) * (1 - 0.4 * np.clip(distance / radius, 0, 1)[..., None])
    picture += inside * (shade - picture)


def pan(scene: Picture, position: float, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """Cut the picture out of a scene that a camera sees at `position` of its way, 0..1."""
    left, top = int(position * _MARGIN), int(position * _MARGIN / 2)
    return np.ascontiguousarray(scene[top : top + height, left : left + width])


def _sweep(seed: int, count: int) -> Iterator[Picture]:
    scene = paint_scene(seed)
    return (pan(scene, number / count) for number in range(count))


def _numbered(*parts: Iterable[Picture], start: int = 0) -> Iterator[tuple[int, Picture]]:
    number = start
    for part in parts:
        for picture in part:
            yield number, picture
            number += 1


def _cuts(path: Path) -> None:
    write_video(path, _numbered(*(_sweep(seed, 2 * FPS) for seed in range(1, 6))))


def _black(path: Path) -> None:
    night = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * (3 * FPS)
    write_video(path, _numbered(_sweep(6, 3 * FPS), night, _sweep(7, 3 * FPS)))


def _freeze(path: Path) -> None:
    moving = list(_sweep(8, 6 * FPS))
    held = [moving[3 * FPS]] * (3 * FPS)
    # A keyframe in the still part would change the picture: encoders do not freeze, cameras do.
    options = {"preset": "veryfast", "crf": "12", "g": str(9 * FPS)}
    write_video(path, _numbered(moving[: 3 * FPS], held, moving[3 * FPS + 1 :]), options=options)


def _motion(path: Path) -> None:
    """A fixed camera with a little noise; a bright ball crosses the picture from 3 s to 7 s."""
    random = np.random.default_rng(9)
    room = pan(paint_scene(9), 0.5).astype(np.int16)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]

    def look(number: int) -> Picture:
        picture = room + random.integers(-4, 5, room.shape, dtype=np.int16)
        way = (number / FPS - 3) / 4
        if 0 <= way < 1:
            ball = np.hypot(x - way * WIDTH, y - HEIGHT / 2 + 60 * np.sin(9 * way)) < 56
            picture[ball] = (250, 240, 120)
        return picture.clip(0, 255).astype(np.uint8)

    write_video(path, ((number, look(number)) for number in range(10 * FPS)))


def _variable(path: Path) -> None:
    """Frames come every 50, 80 and 30 ms: index times rate would be wrong by seconds."""
    parts = ((10, 0, 2350, 50), (11, 2350, 4990, 80), (12, 4990, 7000, 30))
    frames = (
        (time, picture)
        for seed, start, end, step in parts
        for time, picture in zip(
            range(start, end, step), _sweep(seed, len(range(start, end, step))), strict=True
        )
    )
    write_video(path, frames, time_base=_MILLISECOND)


def _late(path: Path) -> None:
    """A transport stream whose clock does not begin at zero."""
    frames = _numbered(_sweep(13, 2 * FPS), _sweep(14, 2 * FPS), start=10 * FPS)
    write_video(path, frames)


def _damaged(path: Path) -> None:
    """The cuts, with the pictures between 4 s and 5 s overwritten."""
    _cuts(path)
    damage(path, 4.0, 5.0)


def damage(path: Path, start_seconds: float, end_seconds: float) -> None:
    """Overwrite the bytes of all packets of a file that are shown between two times."""
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.pts is None or packet.time_base is None or packet.pos is None:
                continue  # the marker at the end
            if start_seconds <= packet.pts * packet.time_base < end_seconds:
                content[packet.pos : packet.pos + packet.size] = random.bytes(packet.size)
    path.write_bytes(content)


def _text(path: Path) -> None:
    path.write_text("This is a letter, whatever its name says.\n" * 40)

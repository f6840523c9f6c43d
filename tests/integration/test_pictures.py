"""Pictures of single moments, by a decoder in its cage, of files of every kind."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.clips import make_clip

from inference.decode import Limits
from inference.forkserver import ForkServer
from inference.moments import Moment
from inference.probe import probe
from inference.samples import FPS, write_video
from inference.thumbnails import Album, Photographer

LIMITS = Limits(max_seconds=60)
STEP_MS = 1000 / FPS
FRAMES = 100
BITS = 8
GOP = 20


def write_steps(path: Path, size: tuple[int, int] = (64, 128), codec: str = "libx264") -> Path:
    """A video whose frame number `n`, shown at `n` times `STEP_MS`, has `n` in stripes of bits."""
    encoding = {"g": str(GOP), "bf": "2", "crf": "10", "sc_threshold": "0"}
    if codec != "libx264":
        encoding = {"g": str(GOP), "crf": "10"}
    bits = np.arange(BITS).repeat(size[1] // BITS)
    rows = (255 * ((n >> bits) & 1).astype(np.uint8) for n in range(FRAMES))
    pictures = (np.broadcast_to(row[None, :, None], (*size, 3)).copy() for row in rows)
    write_video(path, enumerate(pictures), codec=codec, options=encoding)
    return path


def at(milliseconds: float) -> Moment:
    """That frame and no other."""
    return Moment(milliseconds, milliseconds, milliseconds)


def numbers(album: Album) -> list[int]:
    """Which frames the pictures show, by their stripes."""
    found = []
    for picture in album.pictures:
        grey = np.asarray(Image.open(io.BytesIO(picture.jpeg)).convert("L"), np.float64)
        stripes = grey.reshape(len(grey), BITS, -1).mean(axis=(0, 2)) > 127
        found.append(int((stripes << np.arange(BITS)).sum()))
    return found


async def take(server: ForkServer, path: Path, moments: Sequence[Moment]) -> Album:
    """With the limits of a test."""
    return await Photographer(server, LIMITS).take(path, moments)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("steps.mp4", "libx264"),
        ("steps.mkv", "libx264"),
        ("steps.ts", "libx264"),
        ("steps.avi", "mpeg4"),
        ("steps.mp4", "libx265"),
        ("steps.webm", "libvpx-vp9"),
    ],
)
async def test_each_moment_gets_the_frame_that_is_shown_then(
    server: ForkServer, tmp_path: Path, name: str, codec: str
) -> None:
    """In every container: first, last, keyframes, B-frames, neighbours."""
    path = write_steps(tmp_path / name, codec=codec)
    wanted = [0, 1, 19, 20, 21, 55, 57, 99]

    start = probe(path, 60, lambda: None).times_ms()[0]

    # Containers round: some milliseconds later the same frame is shown.
    album = await take(server, path, [at(start + n * STEP_MS + 8) for n in wanted])

    assert numbers(album) == wanted
    assert [round((each.pts_ms - start) / STEP_MS) for each in album.pictures] == wanted
    assert album.cpu_seconds > 0


async def test_a_keyframe_that_will_do_is_taken(server: ForkServer, tmp_path: Path) -> None:
    """The one nearest to the middle; without one in the middle half, the middle itself."""
    path = write_steps(tmp_path / "steps.mp4")

    album = await take(
        server, path, [Moment(1000, 0, 2000), Moment(75.5 * STEP_MS, 74 * STEP_MS, 77 * STEP_MS)]
    )

    assert numbers(album) == [20, 75]
    assert [
        album.find(Moment(1000, 0, 2000)),
        album.find(Moment(75.5 * STEP_MS, 74 * STEP_MS, 77 * STEP_MS)),
    ] == [0, 1]


async def test_the_size_of_a_picture(server: ForkServer, tmp_path: Path) -> None:
    """At most 640 pixels and upright; a small one is not enlarged."""
    large = make_clip(tmp_path / "large.mp4", seconds=1, size="1280x720")
    small = write_steps(tmp_path / "small.mp4", size=(96, 64))

    albums = [await take(server, path, [at(0)]) for path in (large, small)]

    sizes = [Image.open(io.BytesIO(album.pictures[0].jpeg)).size for album in albums]
    assert sizes == [(640, 360), (64, 96)]


async def test_a_damaged_picture_is_left_out(server: ForkServer, tmp_path: Path) -> None:
    """Those from before the damage are made, and none is of another time."""
    path = write_steps(tmp_path / "steps.mp4")
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[middle : middle + 600] = b"\xff" * 600
    path.write_bytes(content)

    album = await take(server, path, [at(n * STEP_MS) for n in (0, 5, 95, 99)])

    assert numbers(album)[:2] == [0, 5]
    assert {round(each.pts_ms / STEP_MS) for each in album.pictures} <= {0, 5, 95, 99}


async def test_a_file_that_is_none(server: ForkServer, tmp_path: Path) -> None:
    """No picture, and no error: the analysis is not lost over it."""
    path = tmp_path / "text.mp4"
    path.write_text("this is no video\n" * 500)

    album = await take(server, path, [at(0)])

    assert album == Album(fault="not_a_video: no video container is recognised")


async def test_no_moment_needs_no_picture(server: ForkServer, tmp_path: Path) -> None:
    """A video without events."""
    album = await take(server, write_steps(tmp_path / "steps.mp4"), [])

    assert album.pictures == []

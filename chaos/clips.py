"""What is uploaded: a few different videos, and a file that is none."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tests.clips import ffmpeg

_SIZE = "size=480x270:rate=25"
_SCENES = (
    f"testsrc2={_SIZE}:duration=%d",
    f"color=black:{_SIZE}:duration=3",
    f"mandelbrot={_SIZE}:end_pts=200,trim=duration=%d",
    f"smptebars={_SIZE}:duration=4",
)
"""Movement, black, movement of another kind, stillness: all kinds of events and cuts between."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to upload."""

    name: str
    data: bytes

    @property
    def revision(self) -> str:
        """The ETag that S3 gives to them."""
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


def make_contents(directory: Path) -> list[Content]:
    """Encode videos of 15 to 43 s; a worker needs a few seconds for each."""
    return [_make(directory / f"{seconds}.mp4", seconds) for seconds in (4, 8, 12, 18)]


def make_junk() -> Content:
    """A file that no probe takes for a video."""
    return Content("junk", b"this is no video\n" * 500)


def _make(path: Path, seconds: int) -> Content:
    scenes = [scene % seconds if "%d" in scene else scene for scene in _SCENES]
    inputs = [part for scene in scenes for part in ("-f", "lavfi", "-i", scene)]
    joined = "".join(f"[{n}:v]" for n in range(len(scenes))) + f"concat=n={len(scenes)},setsar=1"
    ffmpeg(
        *inputs,
        *("-filter_complex", joined, "-c:v", "libx264", "-preset", "ultrafast", "-g", "25"),
        *("-pix_fmt", "yuv420p", str(path)),
    )
    return Content(path.stem, path.read_bytes())

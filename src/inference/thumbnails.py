"""Makes pictures of a video's events: decoded by a caged decoder, written as JPEG here."""

import asyncio
import io
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.decode import Decoding, Limits, Request
from inference.errors import DecoderFailedError, VideoRejectedError
from inference.forkserver import ForkServer
from inference.frames import FrameBatch
from inference.moments import PICTURE_SIDE, Moment
from inference.slabs import Slabs

_SLABS = 2
_QUALITY = 80
_TOTAL_SECONDS = 900.0
"""Of waiting for the decoder; pictures that take longer are left out."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a video."""

    pts_ms: float
    jpeg: bytes


@dataclass(slots=True)
class Album:
    """The pictures of one video, in presentation order."""

    pictures: list[Picture] = field(default_factory=list)
    cpu_seconds: float = 0.0
    """Of the decoder, if it came to its end."""
    fault: str = ""
    """Why there are no more, if the decoder failed."""

    def find(self, moment: Moment) -> int | None:
        """Which picture shows a moment, if one does."""
        return moment.choose(np.array([picture.pts_ms for picture in self.pictures]))


class Photographer:
    """Makes pictures of single moments."""

    def __init__(self, server: ForkServer, limits: Limits) -> None:
        """`limits` are those of the videos' own decoders."""
        self._server = server
        self._limits = replace(limits, total_seconds=_TOTAL_SECONDS)

    async def take(
        self, path: Path, moments: Sequence[Moment], on_alive: Callable[[], None] = lambda: None
    ) -> Album:
        """Take a picture of each moment; those only that were had before a decoder failed.

        `on_alive` is called when the decoder shows that it works.
        """
        album = Album()
        request = Request(path, None, 1, 1, tolerant=True, frame_side=PICTURE_SIDE, moments=moments)
        with closing(Slabs.create(_SLABS, PICTURE_SIDE**2 * 3)) as slabs:
            decoding = Decoding(self._server, request, self._limits, slabs, on_alive)
            try:
                async with decoding:
                    await _collect(decoding, album)
            except (DecoderFailedError, VideoRejectedError) as error:
                album.fault = f"{error.reason}: {error.detail}"
        return album


async def _collect(decoding: Decoding, album: Album) -> None:
    async for item in decoding:
        if isinstance(item, FrameBatch):
            pixels = item.pixels[0].copy()
            decoding.release(item)
            jpeg = await asyncio.to_thread(write_jpeg, pixels)
            album.pictures.append(Picture(float(item.pts_ms[0]), jpeg))
    if decoding.finished is not None:
        album.cpu_seconds = decoding.finished.cpu_seconds


def write_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode uint8 [H, W, 3], RGB."""
    from PIL import Image  # noqa: PLC0415 # without a results bucket nobody needs it

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()

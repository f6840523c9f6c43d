"""Builders of videos, sound and hostile, and the truth about them as PyAV reads it."""

import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import av.error
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import psutil

from inference.decode import Decoding, Limits, Request
from inference.forkserver import ForkServer
from inference.frames import Gap
from inference.samples import Picture, paint_scene, pan, write_video
from inference.sampling import Rate
from inference.slabs import Slabs
from inference.wire import DECODER_NAME, Finished, Opened

FRAME_BYTES = 256 * 256 * 3
X264 = {"preset": "ultrafast", "g": "12", "bf": "2", "x264-params": "scenecut=0"}


def make_pictures(count: int, width: int = 160, height: int = 90) -> Iterator[Picture]:
    """Pictures of a scene under a moving camera, no two the same."""
    scene = _scene(width, height)
    return (pan(scene, number / max(count, 96), width, height) for number in range(count))


@cache
def _scene(width: int, height: int) -> Picture:
    return paint_scene(3, width, height)


def make_video(
    path: Path,
    *,
    frames: int = 48,
    width: int = 160,
    height: int = 90,
    times_ms: Iterable[int] | None = None,
    start: int = 0,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode a short video, 24 frames per second unless `times_ms` says when each is shown."""
    pictures = make_pictures(frames, width, height)
    times = range(start, start + frames) if times_ms is None else times_ms
    write_video(
        path,
        zip(times, pictures, strict=True),
        codec=codec,
        time_base=Fraction(1, 24) if times_ms is None else Fraction(1, 1000),
        fps=Fraction(24),
        pixel_format=pixel_format,
        options=X264 if options is None and codec == "libx264" else options or {"g": "12"},
        container_options=container_options,
    )
    return path


def run_ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg program: it makes files that PyAV's muxers would not."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)


def encode_av1(source: Path, target: Path) -> Path:
    """Encode a video as AV1.

    Not with SVT-AV1, least of all in this process: run by root, it puts whoever encodes, and with
    that all that is started later, under real-time scheduling, and nothing else gets a core.
    """
    run_ffmpeg("-i", source, "-c:v", "libaom-av1", "-cpu-used", "8", target)
    return target


def add_sound(source: Path, target: Path, seconds: float) -> Path:
    """Copy a video and give it a tone of another length."""
    tone = ("-f", "lavfi", "-t", f"{seconds}", "-i", "sine")
    run_ffmpeg("-i", source, *tone, "-c:v", "copy", target)
    return target


def cut_short(source: Path, target: Path, share: float) -> Path:
    """Keep only the first part of a file's bytes."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def remove_packet(source: Path, target: Path, number: int) -> Path:
    """Copy a video without one of its packets."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for position, packet in enumerate(reader.demux(video=0)):
            if packet.dts is not None and position != number:
                packet.stream = stream
                writer.mux(packet)
    return target


def corrupt_packets(path: Path, start: int, stop: int, *, keep: int) -> Path:
    """Overwrite packets number `start` to `stop`, each behind its first `keep` bytes."""
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(1)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in packets[start:stop]:
            assert packet.pos is not None
            begin, end = packet.pos + keep, packet.pos + packet.size
            content[begin:end] = random.bytes(max(0, end - begin))
    path.write_bytes(content)
    return path


def add_sample_entry(path: Path) -> Path:
    """Let the last packets of an MP4 with sound use a second description of the same codec."""
    content = bytearray(path.read_bytes())
    chunks = content.index(b"stsc") + 8
    last = chunks + 4 + 12 * (int.from_bytes(content[chunks : chunks + 4], "big") - 1)
    content[last + 8 : last + 12] = (2).to_bytes(4, "big")
    start = content.index(b"stsd") - 4
    stop = start + int.from_bytes(content[start : start + 4], "big")
    entry = content[start + 16 : stop]
    content[start + 12 : start + 16] = (2).to_bytes(4, "big")
    content[stop:stop] = entry
    for name in (b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = content.index(name) - 4
        size = int.from_bytes(content[at : at + 4], "big") + len(entry)
        content[at : at + 4] = size.to_bytes(4, "big")
    path.write_bytes(content)
    return path


@dataclass(frozen=True, slots=True)
class Truth:
    """What PyAV alone, asked packet by packet, gets out of a file."""

    times_ms: list[float]
    pixels: list[Picture]


def read_truth(path: Path, width: int, height: int) -> Truth:
    """Decode all that is not damaged, at the given size."""
    frames: list[tuple[float, Picture]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(template=stream),
            graph.add("scale", f"{width}:{height}:flags=bicubic"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for packet in container.demux(stream):
            for frame in _decode_tolerantly(packet):
                if not frame.is_corrupt and frame.time is not None:
                    graph.push(frame)
                    scaled = graph.pull()
                    assert isinstance(scaled, av.VideoFrame)
                    frames.append((frame.time * 1000, scaled.to_ndarray().astype(np.uint8)))
    # Next to damage, a decoder lets some frames out too early.
    frames.sort(key=lambda frame: frame[0])
    return Truth([time for time, _ in frames], [pixels for _, pixels in frames])


def _decode_tolerantly(packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except av.error.FFmpegError:
        return []


@dataclass(slots=True)
class Decoded:
    """All that a decoder handed over."""

    opened: Opened
    finished: Finished | None = None
    times_ms: list[float] = field(default_factory=list)
    pixels: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


def make_slabs(batch_size: int = 8, count: int = 3) -> Slabs:
    """Shared memory for batches of the largest working frames."""
    return Slabs.create(count, batch_size * FRAME_BYTES)


def make_request(
    path: Path,
    *,
    sample_fps: Rate = None,
    batch_size: int = 8,
    tolerant: bool = False,
) -> Request:
    """Ask for every frame, unless told otherwise."""
    return Request(path, sample_fps, batch_size, 1, tolerant)


@asynccontextmanager
async def open_decoder(request: Request, limits: Limits, slabs: Slabs) -> AsyncIterator[Decoding]:
    """A decoder with a fork server of its own."""
    async with ForkServer() as server, Decoding(server, request, limits, slabs) as decoding:
        yield decoding


async def decode_all(
    path: Path,
    *,
    sample_fps: Rate = None,
    tolerant: bool = False,
    limits: Limits | None = None,
) -> Decoded:
    """Run a decoder to its end and copy what it hands over."""
    slabs = make_slabs()
    request = make_request(path, sample_fps=sample_fps, tolerant=tolerant)
    try:
        async with open_decoder(request, limits or Limits(3600), slabs) as decoding:
            result = Decoded(decoding.opened)
            async for item in decoding:
                if isinstance(item, Gap):
                    result.gaps.append(item)
                    continue
                result.times_ms += item.pts_ms.tolist()
                result.pixels += [frame.copy() for frame in item.pixels]
                decoding.release(item)
            result.finished = decoding.finished
    finally:
        slabs.close()
    return result


def find_decoders(path: Path) -> list[int]:
    """Process ids of the decoders below this process that work on a file in this directory."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if child.name() == DECODER_NAME and child.cwd() == str(path.parent):
                found.append(child.pid)
    return found

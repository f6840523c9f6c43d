"""Which containers and codecs are let in, and what a file is that is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from inference.errors import VideoRejectedError

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
_OTHER_CONTAINERS = "flv,live_flv,ogg,asf,mpeg,mxf,wav,mp3,flac,aac,ac3,w64,aiff,rm"
"""Opened only to tell what a refused file is; nothing in them is decoded."""
_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores"})
_DECODERS = "h264,hevc,vp8,vp9,libdav1d,av1,mpeg4,mjpeg,prores"


def open_container(path: Path, containers: str = _CONTAINERS) -> InputContainer:
    """Open a local file with the allowed demuxers and decoders only; no playlist, no network."""
    return av.open(
        str(path),
        options={
            "format_whitelist": containers,
            "codec_whitelist": _DECODERS,
            "protocol_whitelist": "file",
        },
    )


def admit_container(path: Path) -> InputContainer:
    """Open a file if it is a video in an allowed container.

    Raises:
        VideoRejectedError: it is not.
    """
    try:
        return open_container(path)
    except av.error.ArgumentError as error:
        raise _refused_container(path) from error
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise VideoRejectedError("not_a_video", _unrecognised(path)) from error


@contextmanager
def open_stream(
    path: Path, index: int, threads: int
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open one video stream of an admitted file; its errors go to stderr as FFmpeg writes them."""
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)
    with open_container(path) as container:
        stream = container.streams[index]
        if not isinstance(stream, VideoStream):
            raise TypeError("the probe named a video stream")
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        yield container, stream


def _unrecognised(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(8)[4:] == b"ftyp":
            return "an MP4 without its index: cut off, or its recorder did not close it"
    return "no video container is recognised"


def _refused_container(path: Path) -> VideoRejectedError:
    try:
        with open_container(path, _OTHER_CONTAINERS) as container:
            name = container.format.name
            kinds = {stream.type for stream in container.streams}
    except av.error.FFmpegError:
        return VideoRejectedError("not_a_video", _unrecognised(path))
    if "video" in kinds:
        return VideoRejectedError("unsupported_codec", f"container {name} is not supported")
    if "audio" in kinds:
        return VideoRejectedError("no_video_stream", f"{name} with sound only")
    return VideoRejectedError("not_a_video", f"{name} without video or sound")


def admit_stream(container: InputContainer) -> VideoStream:
    """Pick the stream to analyse: the first that moves and has an allowed codec.

    Raises:
        VideoRejectedError: there is none.
    """
    if not container.streams:
        raise VideoRejectedError("not_a_video", "the container has no index of its streams")
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not moving:
        raise VideoRejectedError("no_video_stream", "no video stream, or a cover picture only")
    # A stream that FFmpeg has no decoder for comes without a codec context.
    known = [stream for stream in moving if stream.codec_context is not None]
    codec = known[0].codec_context.codec.canonical_name if known else "unknown"
    if codec not in _CODECS:
        raise VideoRejectedError("unsupported_codec", f"codec {codec} is not supported")
    return known[0]

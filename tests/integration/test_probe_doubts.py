"""Each reason for which a file is decoded packet by packet, on a file that has it."""

import re
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from tests.factories_video import (
    X264,
    corrupt_packets,
    cut_short,
    make_video,
    remove_packet,
    run_ffmpeg,
)

from inference.probe import probe

_TS_PACKET_BYTES = 188
_TRANSPORT_ERROR = 0x80


def make_plain(directory: Path) -> Path:
    """An MP4 whose pictures are shown in the order in which they are decoded."""
    return make_video(directory / "plain.mp4", options={**X264, "bf": "0"})


def cut(directory: Path) -> Path:
    """A file that ends before its header says."""
    whole = make_video(directory / "whole.mp4", container_options={"movflags": "faststart"})
    return cut_short(whole, directory / "v.mp4", 0.6)


def mark_as_damaged(directory: Path) -> Path:
    """A transport stream of which a receiver has marked one packet."""
    path = make_video(directory / "v.ts")
    content = bytearray(path.read_bytes())
    middle = len(content) // _TS_PACKET_BYTES // 2 * _TS_PACKET_BYTES
    content[middle + 1] |= _TRANSPORT_ERROR
    path.write_bytes(content)
    return path


def take_a_time(directory: Path) -> Path:
    """A transport stream of which one picture's header has no presentation time."""
    path = make_video(directory / "v.ts", options={**X264, "bf": "0"})
    content = bytearray(path.read_bytes())
    headers = re.finditer(rb"\x00\x00\x01\xe0...\x80\x05", content, re.DOTALL)
    flags = [header.start() for header in headers][20] + 7
    content[flags : flags + 7] = b"\0\x05" + 5 * b"\xff"
    path.write_bytes(content)
    return path


def show_two_at_once(directory: Path) -> Path:
    """A file of which two pictures have the same time."""
    path = directory / "v.mp4"
    with av.open(str(make_plain(directory))) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        packets = [packet for packet in reader.demux(video=0) if packet.dts is not None]
        packets[23].pts = packets[24].pts
        for packet in packets:
            packet.stream = stream
            writer.mux(packet)
    return path


def double(directory: Path) -> Path:
    """A file with two video streams."""
    path = directory / "v.mp4"
    run_ffmpeg("-i", make_plain(directory), *("-map", "0", "-map", "0", "-c", "copy"), path)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (cut, "the header promises more than there is"),
        (
            lambda d: remove_packet(make_plain(d), d / "v.mp4", 24),
            "pictures were lost before the file was written",
        ),
        (
            lambda d: make_video(d / "v.avi", options={**X264, "bf": "0"}),
            "lost pictures could not be noticed",
        ),
        (mark_as_damaged, "packets are marked as damaged"),
        (take_a_time, "packets carry no presentation time"),
        (show_two_at_once, "packets share a presentation time"),
        (
            lambda d: remove_packet(make_plain(d), d / "v.mp4", 0),
            "decoding cannot start at the first packet",
        ),
        (double, "there is more than one video stream"),
        (
            lambda d: corrupt_packets(make_plain(d), 0, 48, keep=0),
            "the first picture cannot be decoded",
        ),
        (
            lambda d: make_video(d / "v.avi", codec="mpeg4", options={"bf": "2", "g": "12"}),
            "decord gives other pictures where groups are open",
        ),
    ],
)
def test_each_reason_is_noticed(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    """What decord would hide, or stop at, is known before it is asked."""
    path = make(tmp_path)

    facts = probe(path, 3600, lambda: None)

    assert reason in facts.tolerant_because.split("; ")

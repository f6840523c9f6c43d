"""Sampling keyframes: exactly those that PyAV tells, whatever the file, and cheaply."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from tests.factories_video import (
    X264,
    Decoded,
    corrupt_packets,
    cut_short,
    decode_all,
    encode_av1,
    make_request,
    make_slabs,
    make_video,
    open_decoder,
    read_truth,
    run_ffmpeg,
)

from inference.backends import Selection
from inference.decode import Limits
from inference.frames import FrameBatch
from inference.keyframes import plan_keyframes
from inference.probe import probe

HEVC = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:open-gop=1"}
VARIABLE = [0, 40, 90, 500, 540, 2000, 2040, 2100, 3000, 3500, 3510, 4000, 4100, 4200, 4300]


def trim(directory: Path) -> Path:
    """A clip that an edit list begins in the middle of a group."""
    path = directory / "trimmed.mp4"
    whole = make_video(directory / "v.mp4", frames=96, options={**X264, "bf": "0"})
    run_ffmpeg("-ss", "0.8", "-i", whole, "-c", "copy", path)
    return path


FILES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "mp4": ("keyframes", lambda d: make_video(d / "v.mp4")),
    "mkv": ("keyframes", lambda d: make_video(d / "v.mkv")),
    "ts": ("keyframes", lambda d: make_video(d / "v.ts")),
    "avi": ("decord", lambda d: make_video(d / "v.avi", codec="mpeg4")),
    "reordered-avi": ("tolerant", lambda d: make_video(d / "v.avi")),
    "open-h264": (
        "keyframes",
        lambda d: make_video(d / "v.mp4", options={**X264, "x264-params": "open-gop=1"}),
    ),
    "open-hevc": ("keyframes", lambda d: make_video(d / "v.mp4", codec="libx265", options=HEVC)),
    "hevc-ts": ("keyframes", lambda d: make_video(d / "v.ts", codec="libx265", options=HEVC)),
    "vp9": ("keyframes", lambda d: make_video(d / "v.webm", codec="libvpx-vp9")),
    "av1": ("keyframes", lambda d: encode_av1(make_video(d / "source.mp4"), d / "v.mp4")),
    "mpeg4": (
        "keyframes",
        lambda d: make_video(d / "v.mp4", codec="mpeg4", options={"g": "12", "bf": "2"}),
    ),
    "variable": (
        "keyframes",
        lambda d: make_video(
            d / "v.mkv", frames=len(VARIABLE), times_ms=VARIABLE, options={**X264, "g": "4"}
        ),
    ),
    "late-ts": ("keyframes", lambda d: make_video(d / "v.ts", start=2400)),
    "edit-list": ("tolerant", trim),
    "all-intra": ("decord", lambda d: make_video(d / "v.mp4", options={**X264, "g": "1"})),
    "mjpeg": (
        "decord",
        lambda d: make_video(d / "v.mov", codec="mjpeg", pixel_format="yuvj420p", options={}),
    ),
}


def keyframes_of(path: Path) -> list[float]:
    """When PyAV shows the first picture, and those that it calls keyframes; milliseconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    shown = [frame for at, frame in enumerate(frames) if frame.key_frame or at == 0]
    return [frame.time * 1000 for frame in shown if frame.time is not None]


def assert_keyframes(decoded: Decoded, path: Path) -> None:
    """The keyframes came, at their times within 1 ms, with the pixels of decoding everything."""
    truth = read_truth(path, decoded.opened.width, decoded.opened.height)
    assert decoded.times_ms == pytest.approx(keyframes_of(path), abs=1.0)
    shown = {round(time): pixels for time, pixels in zip(truth.times_ms, truth.pixels, strict=True)}
    for time, pixels in zip(decoded.times_ms, decoded.pixels, strict=True):
        assert np.array_equal(pixels, shown[round(time)])


@pytest.mark.parametrize("kind", FILES)
async def test_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    """Keyframes and no others are handed over; all frames of the file are accounted for."""
    backend, make = FILES[kind]
    path = make(tmp_path)

    decoded = await decode_all(path, sample_fps="keyframes")

    assert_keyframes(decoded, path)
    assert decoded.finished is not None
    assert decoded.finished.backend == decoded.opened.backend == backend
    assert decoded.finished.decoded == len(read_truth(path, 64, 36).times_ms)
    assert decoded.gaps == []


@pytest.mark.parametrize("kind", ["mp4", "ts", "avi", "open-hevc", "variable"])
async def test_tolerant_agrees(tmp_path: Path, kind: str) -> None:
    """The backend for what is damaged hands over the same frames of what is not."""
    path = FILES[kind][1](tmp_path)

    decoded = await decode_all(path, sample_fps="keyframes", tolerant=True)

    assert_keyframes(decoded, path)


async def test_open_groups_in_an_avi(tmp_path: Path) -> None:
    """Its packets tell decoding order only: a keyframe's time is that of its turn to be shown."""
    options = {**X264, "x264-params": "open-gop=1:scenecut=0"}
    path = make_video(tmp_path / "v.avi", options=options)
    every = await decode_all(path)

    decoded = await decode_all(path, sample_fps="keyframes")

    assert decoded.times_ms == [every.times_ms[at] for at in (0, 12, 24, 36)]


async def test_damaged_keyframe(tmp_path: Path) -> None:
    """A keyframe that cannot be decoded is a gap; those before and behind it are there."""
    path = make_video(tmp_path / "v.mp4", frames=96)
    corrupt_packets(path, 36, 37, keep=8)

    decoded = await decode_all(path, sample_fps="keyframes")

    assert decoded.finished is not None
    assert decoded.finished.backend == "tolerant"
    assert [gap.start_ms <= 1500 < gap.end_ms for gap in decoded.gaps] == [True]
    others = [0, 500, 1000, *range(2000, 4000, 500)]
    assert [time for time in decoded.times_ms if time != 1500] == pytest.approx(others, abs=1.0)


async def test_damage_between_keyframes_is_not_met(tmp_path: Path) -> None:
    """What is not looked at is not reported."""
    path = make_video(tmp_path / "v.mp4", frames=96)
    corrupt_packets(path, 38, 40, keep=8)

    decoded = await decode_all(path, sample_fps="keyframes")

    assert decoded.gaps == []
    assert decoded.times_ms == pytest.approx([500 * n for n in range(8)], abs=1.0)


async def test_cut_short(tmp_path: Path) -> None:
    """A file without its end and its index gives the keyframes that it has, and a gap."""
    whole = make_video(tmp_path / "whole.mkv", frames=96)
    path = cut_short(whole, tmp_path / "v.mkv", 0.6)

    decoded = await decode_all(path, sample_fps="keyframes")

    assert decoded.times_ms == pytest.approx(keyframes_of(path), abs=1.0)
    assert [gap.cause for gap in decoded.gaps] == ["truncated"]


@pytest.mark.parametrize("kind", ["mp4", "ts", "avi", "edit-list"])
async def test_goes_on_behind_a_keyframe(tmp_path: Path, kind: str) -> None:
    """A decoder that is told a time hands over what the first one had still to come."""
    path = FILES[kind][1](tmp_path)
    whole = await decode_all(path, sample_fps="keyframes")
    request = make_request(path, sample_fps="keyframes")
    slabs, times = make_slabs(), list[float]()

    behind = replace(request, after_ms=whole.times_ms[1])
    try:
        async with open_decoder(behind, Limits(3600), slabs) as decoding:
            async for batch in decoding:
                assert isinstance(batch, FrameBatch)
                times += batch.pts_ms.tolist()
                decoding.release(batch)
    finally:
        slabs.close()

    assert times == whole.times_ms[2:]
    assert decoding.finished is not None
    assert whole.finished is not None
    assert decoding.finished.decoded == whole.finished.decoded


def test_parameters_between_keyframes(tmp_path: Path) -> None:
    """Keyframes are decoded by themselves where that is sound, and only if they are few."""
    few = probe(make_video(tmp_path / "v.mp4"), 60, lambda: None)
    many = probe(make_video(tmp_path / "i.mp4", options={**X264, "g": "1"}), 60, lambda: None)
    keyframes = Selection("keyframes", None)
    assert few.references is not None
    marks = few.references.has_parameters.copy()
    marks[5] = True
    strange = replace(few, references=replace(few.references, has_parameters=marks))

    planned = [plan_keyframes(each, keyframes) for each in (few, many, strange)]

    assert planned == [True, False, False]

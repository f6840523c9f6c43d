"""Decoding in a process of its own: exact times, damage, limits, and nothing left behind."""

import _heapq
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.factories_video import (
    X264,
    Decoded,
    Truth,
    add_sound,
    corrupt_packets,
    cut_short,
    decode_all,
    encode_av1,
    make_video,
    read_truth,
    remove_packet,
    run_ffmpeg,
)

from inference.backends import DamageError, ErrorLog, Selection, read_with_decord
from inference.probe import probe
from inference.sampling import sample_indices

FASTSTART = {"movflags": "faststart"}


def assert_same(decoded: Decoded, truth: Truth) -> None:
    """Every frame that PyAV gives, at its time within 1 ms, with the same pixels; no gap."""
    assert decoded.times_ms == pytest.approx(truth.times_ms, abs=1.0)
    assert decoded.gaps == []
    assert all(map(np.array_equal, decoded.pixels, truth.pixels))


VARIABLE = [0, 10, 50, 90, 400, 410, 1000, 1040, 1080, 1500, 1504, 3000]

INTACT: dict[str, Callable[[Path], Path]] = {
    "mp4": lambda d: make_video(d / "v.mp4"),
    "mov": lambda d: make_video(d / "v.mov"),
    "mkv": lambda d: make_video(d / "v.mkv"),
    "ts": lambda d: make_video(d / "v.ts"),
    "avi-mpeg4": lambda d: make_video(d / "v.avi", codec="mpeg4"),
    "avi-mjpeg": lambda d: make_video(d / "v.avi", codec="mjpeg", pixel_format="yuvj420p"),
    "webm-vp8": lambda d: make_video(
        d / "v.webm", codec="libvpx", options={"deadline": "realtime"}
    ),
    "webm-vp9": lambda d: make_video(
        d / "v.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}
    ),
    "mp4-hevc": lambda d: make_video(
        d / "v.mp4",
        codec="libx265",
        options={"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:bframes=0"},
    ),
    "reordered-hevc": lambda d: make_video(
        d / "v.mp4",
        codec="libx265",
        options={"preset": "ultrafast", "x265-params": "log-level=none:keyint=24:open-gop=0"},
    ),
    "open-hevc": lambda d: make_video(
        d / "v.mp4",
        codec="libx265",
        options={"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:open-gop=1"},
    ),
    "open-mpeg4": lambda d: make_video(d / "v.mp4", codec="mpeg4", options={"g": "12", "bf": "2"}),
    "mp4-av1": lambda d: encode_av1(make_video(d / "source.mp4"), d / "v.mp4"),
    "mov-prores": lambda d: make_video(d / "v.mov", codec="prores_ks", pixel_format="yuv422p10le"),
    "b-frames": lambda d: make_video(d / "v.mp4", options={**X264, "bf": "8", "g": "48"}),
    "variable-mp4": lambda d: make_video(d / "v.mp4", frames=12, times_ms=VARIABLE),
    "variable-mkv": lambda d: make_video(d / "v.mkv", frames=12, times_ms=VARIABLE),
    "late-ts": lambda d: make_video(d / "v.ts", start=2400),
    "late-mkv": lambda d: make_video(d / "v.mkv", start=2400),
    "portrait": lambda d: make_video(d / "v.mp4", width=270, height=480),
    "odd": lambda d: make_video(
        d / "v.mkv", width=301, height=171, pixel_format="yuv444p", options=X264
    ),
    "one": lambda d: make_video(d / "v.mp4", frames=1),
    "with-sound": lambda d: add_sound(make_video(d / "picture.mp4"), d / "v.mp4", 5),
}
DISTRUSTED = {"ts", "late-ts", "portrait", "one", "reordered-hevc", "open-hevc", "open-mpeg4"}
"""decord gives other frames behind a jump where groups of pictures are open, fails now and then
where pictures of HEVC are reordered, loses the first ones
of a transport stream and miscounts the channels of some widths; and the probe cannot vouch for the
first picture of a video that is too short."""


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("kind", INTACT)
async def test_intact(tmp_path: Path, kind: str, *, tolerant: bool) -> None:
    """Either backend gives the frames, times and pixels that PyAV reads, whatever the container."""
    path = INTACT[kind](tmp_path)

    decoded = await decode_all(path, tolerant=tolerant)

    assert_same(decoded, read_truth(path, decoded.opened.width, decoded.opened.height))
    assert decoded.finished is not None
    assert decoded.finished.decoded == len(decoded.times_ms)
    assert decoded.finished.backend == ("tolerant" if tolerant or kind in DISTRUSTED else "decord")


@pytest.mark.parametrize("seconds", ["0.3", "0.7", "1.2"])
@pytest.mark.parametrize("gop", ["12", "300"])
async def test_edit_list(tmp_path: Path, seconds: str, gop: str) -> None:
    """A clip trimmed without re-encoding neither hangs nor lies about its times.

    With 300 frames to a group more than 128 are hidden, where decord hangs for ever.
    """
    path = tmp_path / "trimmed.mp4"
    whole = make_video(tmp_path / "v.mp4", frames=400, options={**X264, "g": gop})
    start = str(float(seconds) * 10)
    run_ffmpeg("-ss", start, "-i", whole, "-c", "copy", path)

    decoded = await decode_all(path)

    assert_same(decoded, read_truth(path, decoded.opened.width, decoded.opened.height))


async def test_rotated(tmp_path: Path) -> None:
    """Frames of a phone's portrait video come upright, as a player shows them."""
    path, shown = tmp_path / "portrait.mp4", tmp_path / "shown.mkv"
    source = make_video(tmp_path / "v.mp4", frames=4)
    run_ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", path)
    run_ffmpeg("-i", path, "-c:v", "libx264", "-qp", "0", shown)

    decoded = await decode_all(path)

    assert decoded.pixels[0].shape == (160, 90, 3)
    player = read_truth(shown, 90, 160)
    assert np.abs(decoded.pixels[0].astype(int) - player.pixels[0]).mean() < 3


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("mp4", "sparse"),
        ("mkv", "sparse"),
        ("b-frames", "sparse"),
        ("variable-mp4", "sparse"),
        ("mp4-hevc", "decord"),
        ("webm-vp9", "decord"),
        ("mp4-av1", "decord"),
        ("reordered-hevc", "tolerant"),
        ("open-hevc", "tolerant"),
        ("open-mpeg4", "tolerant"),
        ("ts", "tolerant"),
    ],
)
@pytest.mark.parametrize("tolerant", [False, True])
async def test_sampled(tmp_path: Path, kind: str, backend: str, *, tolerant: bool) -> None:
    """At 5 frames per second, the first frame of each 200 ms comes, with its own time."""
    path = INTACT[kind](tmp_path)

    decoded = await decode_all(path, sample_fps=5, tolerant=tolerant)

    assert decoded.finished is not None
    assert decoded.opened.backend == ("tolerant" if tolerant else backend)
    assert decoded.finished.backend == decoded.opened.backend
    assert decoded.finished.decoded == decoded.opened.info.frames
    truth = read_truth(path, decoded.opened.width, decoded.opened.height)
    taken = sample_indices(np.array(truth.times_ms), 5)
    assert decoded.times_ms == pytest.approx([truth.times_ms[i] for i in taken], abs=1.0)
    assert all(
        np.array_equal(pixels, truth.pixels[i])
        for i, pixels in zip(taken, decoded.pixels, strict=True)
    )


def assert_as_far_as_it_goes(decoded: Decoded, truth: Truth, intact: Truth) -> None:
    """The frames that PyAV still reads came, and each frame that did not is inside a gap."""
    assert decoded.times_ms == pytest.approx(truth.times_ms, abs=1.0)
    came = set(np.round(decoded.times_ms).tolist())
    for time in intact.times_ms:
        missing = round(time) not in came
        inside = any(gap.start_ms - 1 <= time < gap.end_ms - 1 for gap in decoded.gaps)
        assert missing == inside, f"{time} ms"


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
@pytest.mark.parametrize("keep", [0, 40])
@pytest.mark.parametrize(("start", "stop"), [(20, 24), (24, 26), (36, 37)])
async def test_damaged_in_the_middle(
    tmp_path: Path, name: str, keep: int, start: int, stop: int
) -> None:
    """Damaged pictures cost themselves and a gap; all that PyAV still reads is analysed."""
    path = make_video(tmp_path / name, width=640, height=360)
    intact = read_truth(path, 256, 144)
    corrupt_packets(path, start, stop, keep=keep)

    decoded = await decode_all(path)

    truth = read_truth(path, 256, 144)
    assert_as_far_as_it_goes(decoded, truth, intact)
    assert len(truth.times_ms) == len(intact.times_ms) or decoded.gaps


async def test_damage_is_met_midway(tmp_path: Path) -> None:
    """What decord read before the damage is kept, and PyAV goes on from there."""
    path = make_video(tmp_path / "v.mp4", frames=480, width=640, height=360)
    intact = read_truth(path, 256, 144)
    corrupt_packets(path, 420, 424, keep=40)

    decoded = await decode_all(path)

    assert decoded.opened.backend == "decord"
    assert decoded.finished is not None
    assert decoded.finished.backend == "tolerant"
    assert_as_far_as_it_goes(decoded, read_truth(path, 256, 144), intact)
    assert decoded.times_ms == sorted(set(decoded.times_ms))
    assert decoded.gaps


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.webm", "v.ts"])
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
async def test_cut_short(tmp_path: Path, name: str, share: float) -> None:
    """A file cut short gives the frames it has; the rest of what it promised is a gap."""
    codec = {"codec": "libvpx", "options": {"deadline": "realtime"}} if name == "v.webm" else {}
    whole = make_video(
        tmp_path / name,
        width=640,
        height=360,
        container_options=FASTSTART if name == "v.mp4" else None,
        **codec,  # type: ignore[arg-type] # one of two sets of arguments
    )
    path = cut_short(whole, tmp_path / f"cut-{name}", share)

    decoded = await decode_all(path)

    truth = read_truth(path, 256, 144)
    assert decoded.times_ms == pytest.approx(truth.times_ms, abs=1.0)
    if name == "v.ts":  # its length is stated nowhere, so nothing is known to be missing
        assert all(gap.cause == "damaged" for gap in decoded.gaps)
        return
    gap = decoded.gaps[-1]
    assert gap.cause == "truncated"
    assert gap.start_ms == pytest.approx(truth.times_ms[-1] + 1000 / 24, abs=5)
    assert gap.end_ms == pytest.approx(2000, abs=50)


@pytest.mark.parametrize("sample_fps", [None, 5.0])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize(("number", "lost_ms"), [(24, (1000, 1458)), (30, (1250, 1292))])
async def test_removed_packet(
    tmp_path: Path, name: str, number: int, lost_ms: tuple[int, int], sample_fps: float | None
) -> None:
    """A picture that was lost before the file was written shifts no other in time, and is a gap.

    Without the keyframe, FFmpeg silently drops the pictures up to the next one; decord would hand
    over later ones in their place.
    """
    whole = make_video(tmp_path / name, width=640, height=360, options={**X264, "bf": "0"})
    path = remove_packet(whole, tmp_path / f"less-{name}", number)

    decoded = await decode_all(path, sample_fps=sample_fps)

    truth = read_truth(path, 256, 144)
    taken = sample_indices(np.array(truth.times_ms), sample_fps)
    assert decoded.times_ms == pytest.approx([truth.times_ms[i] for i in taken], abs=1.0)
    assert all(map(np.array_equal, decoded.pixels, [truth.pixels[i] for i in taken]))
    (gap,) = decoded.gaps
    assert (gap.start_ms, gap.end_ms) == pytest.approx(lost_ms, abs=43)


async def test_sampled_frames_around_damage(tmp_path: Path) -> None:
    """Sampling goes on across the damage as if nothing had happened: same buckets, no repeat."""
    path = make_video(tmp_path / "v.mp4", frames=480, width=640, height=360)
    corrupt_packets(path, 420, 424, keep=40)

    decoded = await decode_all(path, sample_fps=5)

    truth = read_truth(path, 256, 144)
    taken = sample_indices(np.array(truth.times_ms), 5)
    assert decoded.times_ms == pytest.approx([truth.times_ms[i] for i in taken], abs=1.0)
    assert decoded.gaps


async def test_nothing_can_be_decoded(tmp_path: Path) -> None:
    """A file whose every picture is damaged is one gap, not an error."""
    path = corrupt_packets(make_video(tmp_path / "v.mp4"), 0, 48, keep=0)

    decoded = await decode_all(path)

    (gap,) = decoded.gaps
    assert decoded.times_ms == []
    assert (gap.start_ms, gap.end_ms) == pytest.approx((0, 2000))


def test_decord_begins_elsewhere(tmp_path: Path) -> None:
    """If decord's first picture is not the one that the probe decoded, none of it is used."""
    path = make_video(tmp_path / "v.mp4")
    facts = probe(path, 3600, lambda: None)
    assert facts.first_picture is not None
    other = replace(facts, first_picture=facts.first_picture + np.uint8(1))

    with pytest.raises(DamageError, match="another picture"):
        next(read_with_decord(path, other, Selection(None, None), threads=1, log=ErrorLog()))


@pytest.mark.parametrize(
    ("loads", "is_mapped"), [("import decord", True), ("import_decord()", False)]
)
def test_decord_leaves_the_libraries_of_cuda_alone(
    tmp_path: Path, loads: str, is_mapped: bool
) -> None:
    """By itself it maps all that lie beside torch, more than a decoder may have of memory."""
    library = tmp_path / "nvidia" / "cublas" / "lib" / "libcublas.so.13"
    library.parent.mkdir(parents=True)
    shutil.copy(_heapq.__file__, library)
    code = f"""
from pathlib import Path
from inference.backends import import_decord
{loads}
print({str(library)!r} in Path("/proc/self/maps").read_text())
"""

    told = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.split() == [str(is_mapped)]

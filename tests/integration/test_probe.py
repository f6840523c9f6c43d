"""What the probe tells about files, on files of real encoders."""

from fractions import Fraction
from pathlib import Path

import pytest
from tests.factories_video import (
    X264,
    add_sound,
    cut_short,
    make_video,
    read_truth,
    run_ffmpeg,
)

from inference.errors import VideoRejectedError
from inference.probe import Probe, probe

LONG = 3600.0
FASTSTART = {"movflags": "faststart"}


def run_probe(path: Path, max_seconds: float = LONG) -> Probe:
    """Probe a file, whose progress does not matter."""
    return probe(path, max_seconds, lambda: None)


def reject(path: Path, max_seconds: float = LONG) -> str:
    """Probe a file that must be refused, and return the reason."""
    with pytest.raises(VideoRejectedError) as caught:
        run_probe(path, max_seconds)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("letter.mp4", b"Dear all,\n" * 100),
        ("noise.mkv", bytes(range(256)) * 100),
        ("subtitles.mp4", b"1\n00:00:00,000 --> 00:00:04,000\nhello\n\n"),
        ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/passwd\n"),
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
    ],
)
def test_not_a_video(tmp_path: Path, name: str, content: bytes) -> None:
    """Nothing, text, noise and lists of other files are no videos; a list is not followed."""
    path = tmp_path / name
    path.write_bytes(content)

    assert reject(path) == "not_a_video"


def test_picture(tmp_path: Path) -> None:
    """A still picture is no video."""
    path = tmp_path / "picture.png"
    run_ffmpeg("-i", make_video(tmp_path / "v.mp4"), "-frames:v", "1", path)

    assert reject(path) == "not_a_video"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_no_index(tmp_path: Path, share: float) -> None:
    """An MP4 that was cut before its index, which is at its end, cannot be read at all."""
    whole = make_video(tmp_path / "whole.mp4")

    with pytest.raises(VideoRejectedError, match="not_a_video: an MP4 without its index: cut off"):
        run_probe(cut_short(whole, tmp_path / "cut.mp4", share), LONG)


@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mkv", "a.wav", "a.mp3", "a.flac", "a.ogg"])
def test_sound_only(tmp_path: Path, name: str) -> None:
    """Sound without a picture has no video stream, whichever container it is in."""
    path = tmp_path / name
    run_ffmpeg("-f", "lavfi", "-t", "1", "-i", "sine", path)

    assert reject(path) == "no_video_stream"


def test_cover_picture(tmp_path: Path) -> None:
    """A song with a cover is no video, although its cover is stored as a video stream."""
    song, cover, path = tmp_path / "a.m4a", tmp_path / "c.jpg", tmp_path / "covered.m4a"
    run_ffmpeg("-f", "lavfi", "-t", "1", "-i", "sine", song)
    run_ffmpeg("-i", make_video(tmp_path / "v.mp4"), "-frames:v", "1", cover)
    run_ffmpeg(
        *("-i", song, "-i", cover, "-map", "0", "-map", "1"),
        *("-c", "copy", "-disposition:v:0", "attached_pic", path),
    )

    assert reject(path) == "no_video_stream"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "ffv1"), ("a.mkv", "mpeg2video"), ("a.flv", "flv"), ("a.mpg", "mpeg2video")],
)
def test_unsupported(tmp_path: Path, name: str, codec: str) -> None:
    """A codec or a container outside the list is named as such: the file is a video."""
    path = tmp_path / name
    run_ffmpeg("-i", make_video(tmp_path / "v.mp4"), "-c:v", codec, path)

    assert reject(path) == "unsupported_codec"


def test_too_long_by_its_header(tmp_path: Path) -> None:
    """A video above the limit is refused, one at the limit is not."""
    path = make_video(tmp_path / "v.mp4", frames=48)

    assert reject(path, 1.9) == "too_long"
    assert run_probe(path, 2.0).info.frames == 48


def test_late_is_not_long(tmp_path: Path) -> None:
    """The header of Matroska states when the video ends, and not how long it lasts."""
    late = range(2**31, 2**31 + 48 * 40, 40)
    path = make_video(tmp_path / "v.mkv", times_ms=late)

    assert run_probe(path, 2.0).info.duration_seconds == pytest.approx(1.92, abs=0.01)
    assert reject(path, 1.8) == "too_long"


def test_too_long_whatever_its_header_says(tmp_path: Path) -> None:
    """A transport stream states no length; its times do."""
    path = make_video(tmp_path / "v.ts", times_ms=[0, 40, 80, 30_000], frames=4)

    assert reject(path, 20.0) == "too_long"


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1280, 720, (256, 144)),
        (720, 1280, (144, 256)),
        (854, 480, (256, 144)),
        (258, 258, (256, 256)),
        (256, 144, (256, 144)),
        (160, 90, (160, 90)),
        (1000, 10, (256, 2)),
    ],
)
def test_frame_size(tmp_path: Path, width: int, height: int, expected: tuple[int, int]) -> None:
    """Working frames keep the shape, are even, at most 256 on the longer side, never enlarged."""
    path = make_video(tmp_path / "v.mp4", frames=2, width=width, height=height)

    assert run_probe(path).frame_size() == expected


def test_odd_size(tmp_path: Path) -> None:
    """An odd side loses a pixel instead of gaining one."""
    path = make_video(
        tmp_path / "v.avi", frames=2, width=101, height=57, codec="mjpeg", pixel_format="yuvj444p"
    )

    facts = run_probe(path)

    assert (facts.info.width, facts.info.height) == (101, 57)
    assert facts.frame_size() == (100, 56)


def test_rotated(tmp_path: Path) -> None:
    """A phone's portrait video is described as coded, and its frames come upright."""
    path = tmp_path / "portrait.mp4"
    run_ffmpeg(
        *("-display_rotation", "90", "-i", make_video(tmp_path / "v.mp4", width=320, height=180)),
        *("-c", "copy", path),
    )

    facts = run_probe(path)

    assert (facts.info.width, facts.info.height) == (320, 180)
    assert facts.frame_size() == (144, 256)
    assert facts.tolerant_because == "the picture is rotated"


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.mov"])
def test_description(tmp_path: Path, name: str) -> None:
    """The probe describes a sound file, trusts it to any backend, and knows every time in it."""
    path = make_video(tmp_path / name, frames=48, start=24)

    facts = run_probe(path)

    assert facts.info.codec == "h264"
    assert facts.info.frames == 48
    assert facts.info.fps == pytest.approx(24, abs=0.05)
    assert facts.info.duration_seconds == pytest.approx(2, abs=0.002)
    assert facts.times_ms().tolist() == pytest.approx(read_truth(path, 160, 90).times_ms, abs=1e-6)
    assert facts.times_ms().tolist() == [facts.milliseconds(int(pts)) for pts in facts.pts]
    assert facts.end_ms == pytest.approx(facts.times_ms()[0] + 2000, abs=2)
    assert facts.promised_end_ms is None
    distrust = "decord may lose the beginning of a transport stream"
    assert (distrust in facts.tolerant_because) == (name == "v.ts")
    assert name == "v.ts" or facts.tolerant_because == ""
    assert facts.time_base > Fraction(0)


def test_edit_list(tmp_path: Path) -> None:
    """Packets that an edit list hides are no frames, and decord is kept away from them."""
    path = tmp_path / "trimmed.mp4"
    run_ffmpeg("-ss", "0.7", "-i", make_video(tmp_path / "v.mp4"), "-c", "copy", path)

    facts = run_probe(path)

    assert "an edit list discards packets" in facts.tolerant_because
    assert facts.times_ms().tolist() == pytest.approx(read_truth(path, 160, 90).times_ms, abs=1e-6)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi"])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_cut_short(tmp_path: Path, name: str, share: float) -> None:
    """A file cut short still promises its whole length."""
    whole = make_video(
        tmp_path / name,
        options={**X264, "bf": "0"} if name == "v.avi" else None,
        container_options=FASTSTART if name == "v.mp4" else None,
    )

    facts = run_probe(cut_short(whole, tmp_path / f"cut-{name}", share))

    assert facts.promised_end_ms == pytest.approx(2000, abs=50)
    assert facts.end_ms < 1900


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.avi", "v.mov"])
def test_longer_sound(tmp_path: Path, name: str) -> None:
    """Sound that goes on after the picture does not make the picture look cut short."""
    picture = make_video(tmp_path / "picture.mp4", options={**X264, "bf": "0"})
    path = add_sound(picture, tmp_path / name, 5)

    facts = run_probe(path)

    assert facts.promised_end_ms is None
    assert facts.end_ms - facts.times_ms()[0] == pytest.approx(2000, abs=50)


def test_longer_sound_without_track_durations(tmp_path: Path) -> None:
    """Not even where only the container states a length, which is the sound's."""
    path, bare = tmp_path / "v.mkv", tmp_path / "bare.mkv"
    add_sound(make_video(tmp_path / "picture.mp4"), path, 5)
    content = path.read_bytes()
    bare.write_bytes(content.replace(b"DURATION", b"UNKNOWN_"))

    facts = run_probe(bare)

    assert facts.promised_end_ms is None


def test_one_frame(tmp_path: Path) -> None:
    """A video of a single frame is a video."""
    facts = run_probe(make_video(tmp_path / "v.mp4", frames=1))

    assert facts.info.frames == 1
    assert facts.info.duration_seconds == pytest.approx(1 / 24, abs=0.001)


def test_large_file(tmp_path: Path) -> None:
    """A large file is read packet by packet: decord would hold all of it in memory."""
    path = make_video(tmp_path / "v.mp4")
    padding = 33 << 20
    with path.open("ab") as file:
        file.write(padding.to_bytes(4, "big") + b"free")
        file.truncate(file.tell() - 8 + padding)

    facts = run_probe(path)

    assert facts.tolerant_because == "the file is too large for decord's memory"

"""Small videos, and files that are none, written by the real ffmpeg."""

import subprocess
from pathlib import Path

import imageio_ffmpeg


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg; it says nothing unless it fails."""
    executable = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([executable, "-loglevel", "error", "-y", *arguments], check=True, timeout=120)


def make_clip(path: Path, *output: str, seconds: float = 3, size: str = "320x180") -> Path:
    """A moving test picture at 25 frames per second, H.264 unless `output` says otherwise."""
    source = f"testsrc2=size={size}:rate=25:duration={seconds}"
    codec = () if "-c:v" in output else ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25")
    ffmpeg("-f", "lavfi", "-i", source, *codec, "-pix_fmt", "yuv420p", *output, str(path))
    return path


def make_unusable(directory: Path) -> dict[str, tuple[Path, str]]:
    """Files that cannot be analysed, by name, each with the reason to expect."""
    sound = ("-f", "lavfi", "-i", "sine=duration=2")
    ffmpeg(*sound, str(directory / "sound.mp4"))
    make_clip(directory / "odd.mkv", "-c:v", "ffv1")
    whole = make_clip(directory / "whole.mp4").read_bytes()  # its index, moov, comes last
    (directory / "empty.mp4").write_bytes(b"")
    (directory / "text.mp4").write_text("this is no video\n" * 500)
    (directory / "no_moov.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    reasons = {
        "empty.mp4": "not_a_video",
        "text.mp4": "not_a_video",
        "no_moov.mp4": "not_a_video",
        "sound.mp4": "no_video_stream",
        "odd.mkv": "unsupported_codec",
    }
    return {name: (directory / name, reason) for name, reason in reasons.items()}

"""Videos to measure with: H.264 of a moving test picture with the noise of a camera."""

import subprocess
from pathlib import Path

import imageio_ffmpeg


def make_video(
    path: Path, *, seconds: int, seed: int = 0, size: str = "1280x720", b_frames: int = 3
) -> Path:
    """Encode a video at 25 frames per second with a keyframe every two seconds."""
    source = f"testsrc2=size={size}:rate=25"
    noise = f"noise=alls=6:allf=t:all_seed={seed}"
    _ffmpeg(
        *("-f", "lavfi", "-i", source, "-t", str(seconds), "-vf", noise),
        *("-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-bf", str(b_frames)),
        *("-pix_fmt", "yuv420p", str(path)),
    )
    return path


def repeat_video(path: Path, source: Path, times: int) -> Path:
    """Put a video behind itself so many times, without encoding it again."""
    _ffmpeg("-stream_loop", str(times - 1), "-i", str(source), "-c", "copy", str(path))
    return path


def _ffmpeg(*arguments: str) -> None:
    executable = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([executable, "-loglevel", "error", "-y", *arguments], check=True)

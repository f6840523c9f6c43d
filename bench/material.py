"""Videos to measure with: H.264 of pictures that move, cut and make noise, as a camera's do."""

import subprocess
from pathlib import Path

import imageio_ffmpeg


def make_video(path: Path, *, seconds: int, seed: int = 0, size: str = "1280x720") -> Path:
    """Encode a video at 25 frames per second with a keyframe every two seconds."""
    source = f"mandelbrot=size={size}:rate=25:start_scale={1 + seed / 10}:end_scale=0.02"
    noise = f"noise=alls=6:allf=t:all_seed={seed}"
    _ffmpeg(
        *("-f", "lavfi", "-i", source, "-t", str(seconds), "-vf", noise),
        *("-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-pix_fmt", "yuv420p", str(path)),
    )
    return path


def repeat_video(path: Path, source: Path, times: int) -> Path:
    """Put a video behind itself so many times, without encoding it again."""
    _ffmpeg("-stream_loop", str(times - 1), "-i", str(source), "-c", "copy", str(path))
    return path


def _ffmpeg(*arguments: str) -> None:
    executable = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([executable, "-loglevel", "error", "-y", *arguments], check=True)

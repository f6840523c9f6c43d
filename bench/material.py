"""Videos to measure with: H.264 of a moving test picture with the noise of a camera."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg


def make_video(
    path: Path,
    *,
    seconds: int,
    seed: int = 0,
    size: str = "1280x720",
    b_frames: int = 3,
    references: int = 1,
    gop: int = 50,
    look: str = "null",
    is_still: bool = False,
) -> Path:
    """Encode a video at 25 frames per second with a keyframe every `gop` frames.

    `look` is a filter of ffmpeg's that the picture passes. In one that `is_still` nothing moves.
    """
    source = f"testsrc2=size={size}:rate=25"
    if is_still:
        source += ",loop=loop=-1:size=1,setpts=N/25/TB"
    noise = f"noise=alls=6:allf=t:all_seed={seed},{look}"
    _ffmpeg(
        *("-f", "lavfi", "-i", source, "-t", str(seconds), "-vf", noise),
        *("-c:v", "libx264", "-preset", "veryfast", "-g", str(gop), "-bf", str(b_frames)),
        *("-refs", str(references)),
        *("-pix_fmt", "yuv420p", str(path)),
    )
    return path


def repeat_video(path: Path, source: Path, times: int) -> Path:
    """Put a video behind itself so many times, without encoding it again."""
    _ffmpeg("-stream_loop", str(times - 1), "-i", str(source), "-c", "copy", str(path))
    return path


def join_videos(path: Path, sources: Sequence[Path]) -> Path:
    """Put videos of one kind behind each other, without encoding them again."""
    listed = path.with_suffix(".txt")
    listed.write_text("".join(f"file '{source}'\n" for source in sources))
    _ffmpeg("-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy", str(path))
    return path


def _ffmpeg(*arguments: str) -> None:
    executable = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([executable, "-loglevel", "error", "-y", *arguments], check=True)

"""The tools that our definitions come from, run on given pixels or files."""

import re
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector
from tests.parity.scenes import Clip

Interval = tuple[float, float | None]


class ScoredContentDetector(ContentDetector):  # type: ignore[misc]  # scenedetect has no types
    """ContentDetector, with each frame's score kept."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[float] = []

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: Clip) -> float:
        self.scores.append(super()._calculate_frame_score(timecode, frame_img))
        return self.scores[-1]


def cut_frames(detector: ContentDetector | AdaptiveDetector, clip: Clip) -> list[int]:
    """The frames at which a PySceneDetect detector cuts."""
    cuts: list[int] = []
    for at, frame in enumerate(clip):
        found = detector.process_frame(FrameTimecode(at, fps=25.0), frame[..., ::-1].copy())
        cuts += [cut.frame_num for cut in found]
    cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(len(clip), fps=25.0))]
    return cuts


def black_intervals(clip: Clip, fps: int) -> list[Interval]:
    """What ffmpeg's blackdetect says about the pixels, in seconds."""
    return _black(_run(_raw_input(clip, fps), "blackdetect=d=2:pic_th=0.98:pix_th=0.10", clip))


def freeze_intervals(clip: Clip, fps: int) -> list[Interval]:
    """What ffmpeg's freezedetect says; the end is None if the freeze lasts until the end."""
    return _freeze(_run(_raw_input(clip, fps), "freezedetect=n=0.001:d=2", clip))


def file_intervals(path: Path) -> tuple[list[Interval], list[Interval]]:
    """Black and freeze of a file, both as ffmpeg sees them on its own decoded YUV."""
    log = _run(["-i", str(path)], "blackdetect=d=2,freezedetect=n=0.001:d=2", None)
    return _black(log), _freeze(log)


def encode(path: Path, clip: Clip, pts_ms: Iterable[int]) -> None:
    """Write a clip as H.264 with the given presentation times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", options={"crf": "12", "preset": "veryfast"})
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, pts in zip(clip, pts_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(path: Path) -> tuple[Clip, npt.NDArray[np.float64]]:
    """All frames of a file as RGB, and their presentation times in milliseconds."""
    with av.open(str(path)) as container:
        frames = [
            (each.to_ndarray(format="rgb24"), each.time) for each in container.decode(video=0)
        ]
    return np.stack([pixels for pixels, _ in frames]), np.array([t * 1000 for _, t in frames])


def _raw_input(clip: Clip, fps: int) -> list[str]:
    size = f"{clip.shape[2]}x{clip.shape[1]}"
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "-"]


def _run(source: list[str], filters: str, clip: Clip | None) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", *source]
    command += ["-vf", filters, "-fps_mode", "passthrough", "-f", "null", "-"]
    data = None if clip is None else clip.tobytes()
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=60)
    return done.stderr.decode()


def _black(log: str) -> list[Interval]:
    found = re.findall(r"black_start:(\S+) black_end:(\S+)", log)
    return [(float(start), float(end)) for start, end in found]


def _freeze(log: str) -> list[Interval]:
    starts = [float(each) for each in re.findall(r"freeze_start: (\S+)", log)]
    ends = [float(each) for each in re.findall(r"freeze_end: (\S+)", log)]
    return list(zip(starts, ends + [None] * (len(starts) - len(ends)), strict=True))

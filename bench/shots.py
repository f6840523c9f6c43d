"""Shot detection: ours and PySceneDetect's, over the same file, by the CPU time that each takes."""

import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from bench.alone import run_alone
from bench.material import join_videos, make_video
from bench.measure import Measurement
from inference.analyzers import color
from inference.analyzers.cuts import ContentCuts, Cut
from inference.analyzers.difference import consecutive_difference
from inference.backends import ErrorLog, Sampled, Selection
from inference.decoder_main import open_frames
from inference.probe import probe

SCENES, SECONDS, ROUNDS = 12, 4, 3
_BATCH = 4


async def measure(directory: Path) -> list[Measurement]:
    """Every frame of a file, opened, decoded and compared with the one before.

    Raises:
        RuntimeError: they disagree about where a shot begins by more than a frame.
    """
    path = make_scenes(directory)
    ours, peer = list[float](), list[float]()
    for _ in range(ROUNDS):
        mine = await run_alone("bench.shots", "detect", path)
        theirs = await run_alone("bench.shots", "detect_with_scenedetect", path)
        check_same(mine["cuts"], theirs["cuts"])
        ours.append(SCENES * SECONDS * 25 / mine["cpu_seconds"])
        peer.append(SCENES * SECONDS * 25 / theirs["cpu_seconds"])
    return [
        Measurement(
            "shots in 720p, the same cuts: PySceneDetect's ContentDetector",
            max(ours),
            max(peer),
            "frames/CPU-s",
            2,
            rounds=tuple(round(mine / its, 3) for mine, its in zip(ours, peer, strict=True)),
        )
    ]


def make_scenes(directory: Path) -> Path:
    """A video of scenes that are clearly different, with a cut every few seconds."""
    parts = [
        make_video(
            directory / f"scene-{n}.mp4", seconds=SECONDS, seed=n, look=f"hue=h={n * 97 % 360}"
        )
        for n in range(SCENES)
    ]
    return join_videos(directory / "scenes.mp4", parts)


def check_same(ours: list[int], theirs: list[int]) -> None:
    """Raise RuntimeError if the cuts are not the peer's, within a frame."""
    if len(theirs) != SCENES - 1:
        raise RuntimeError(f"PySceneDetect finds {len(theirs)} cuts in {SCENES} scenes")
    if len(ours) != len(theirs) or any(
        abs(mine - its) > 1 for mine, its in zip(ours, theirs, strict=True)
    ):
        raise RuntimeError(f"other cuts than PySceneDetect's: {ours}, {theirs}")


def detect(path: str) -> dict[str, object]:
    """Find the cuts as an analysis of every frame does; as frame numbers."""
    torch.set_num_threads(1)
    started = time.process_time()
    facts = probe(Path(path), 3600, lambda: None)
    selection = Selection(None, None)
    _, items = open_frames(Path(path), facts, selection, tolerant=False, threads=1, log=ErrorLog())
    frames = (item.pixels for item in items if isinstance(item, Sampled))
    rule, cuts, at, before = ContentCuts(), list[int](), 0, None
    with torch.inference_mode():
        while batch := list(islice(frames, _BATCH)):
            hsv = color.hsv_of(color.planes_of(torch.from_numpy(np.stack(batch))))
            sums = consecutive_difference(before, hsv)
            before = hsv[-1:]
            for score in sums.div(hsv[0, 0].numel()).mean(1).tolist():
                cut = rule.push(Cut(at, at * 40.0, score))
                cuts += [cut.frame] if cut else []
                at += 1
    return {"cuts": cuts, "cpu_seconds": time.process_time() - started}


def detect_with_scenedetect(path: str) -> dict[str, object]:
    """Find the cuts with the peer, as it comes."""
    from scenedetect import ContentDetector, SceneManager, open_video  # noqa: PLC0415 # only here

    started = time.process_time()
    manager = SceneManager()  # its default: scaled down to a width of 256 or a little more
    manager.add_detector(ContentDetector())
    manager.detect_scenes(open_video(path))
    cuts = [start.frame_num for start, _ in manager.get_scene_list()[1:]]
    return {"cuts": cuts, "cpu_seconds": time.process_time() - started}

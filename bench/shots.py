"""Shot detection: ours and PySceneDetect's, over the same file, by the CPU time that each takes."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from bench.alone import run_alone
from bench.material import join_videos, make_video
from bench.measure import Measurement
from inference.analyzers import color
from inference.analyzers.cuts import ContentCuts, Cut, MinLength
from inference.analyzers.difference import consecutive_difference
from inference.backends import ErrorLog, Sampled, Selection
from inference.changes import find_changes
from inference.decoder_main import open_frames
from inference.probe import probe
from inference.refining import plan_looks
from inference.sampling import Fixed, joins_ms
from inference.timeline import MIN_SHOT_FRAMES, place
from inference.wire import Changed

SCENES, SECONDS, ROUNDS = 12, 10, 3
FPS = 25
RATES: dict[str, Fixed] = {
    "every frame": None,
    "5 frames a second, and all before a cut": 5.0,
    "keyframes, and all before a cut": "keyframes",
}
_BATCH = 4


async def measure(directory: Path) -> list[Measurement]:
    """A file opened, decoded and searched for cuts, at each rate as the service would do it.

    Raises:
        RuntimeError: they disagree about where a shot begins by more than a frame.
    """
    path = make_scenes(directory)
    ours, peer = {name: list[float]() for name in RATES}, list[float]()
    for _ in range(ROUNDS):
        theirs = await run_alone("bench.shots", "detect_with_scenedetect", path)
        peer.append(SCENES * SECONDS * FPS / theirs["cpu_seconds"])
        for name in RATES:
            mine = await run_alone("bench.shots", "detect", path, name)
            check_same(mine["cuts"], theirs["cuts"])
            ours[name].append(SCENES * SECONDS * FPS / mine["cpu_seconds"])
    return [
        Measurement(
            f"shots in 720p, the same cuts, from {name}: PySceneDetect's ContentDetector",
            max(rates),
            max(peer),
            "frames/CPU-s",
            2,
            rounds=tuple(round(mine / its, 3) for mine, its in zip(rates, peer, strict=True)),
        )
        for name, rates in ours.items()
    ]


def make_scenes(directory: Path) -> Path:
    """A video of scenes that are clearly different, with a cut every few seconds."""
    parts = [
        make_video(
            directory / f"scene-{n}.mp4",
            seconds=SECONDS,
            seed=n,
            look=f"hue=h={n * 97 % 360}",
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


def detect(path: str, name: str) -> dict[str, object]:
    """Find the cuts from the frames of one of `RATES`; as frame numbers."""
    torch.set_num_threads(1)
    started, rate, log = time.process_time(), RATES[name], ErrorLog()
    facts = probe(Path(path), 3600, lambda: None)
    _, items = open_frames(
        Path(path), facts, Selection(rate, None), tolerant=False, threads=1, log=log
    )
    cuts = list(_see_cuts((item for item in items if isinstance(item, Sampled)), rate))
    looked = [] if rate is None else plan_looks(cuts, SCENES * SECONDS * 1000)
    spans = [(cuts[at].since_ms, cuts[at].pts_ms) for at in looked]
    found = find_changes(Path(path), facts, spans, threads=1, log=log)
    changes = {looked[each.span]: each for each in found if isinstance(each, Changed)}
    times = [place(cut, changes.get(at)) for at, cut in enumerate(cuts)]
    frames = [round(at_ms * FPS / 1000) for at_ms in times if at_ms is not None]
    return {"cuts": frames, "cpu_seconds": time.process_time() - started}


def _see_cuts(frames: Iterator[Sampled], rate: Fixed) -> Iterator[Cut]:
    """Yield what the service's rule takes for cuts, each at the frame that showed it."""
    shortest = None if rate is None else MIN_SHOT_FRAMES * 1000 / FPS
    rule, at, before = ContentCuts(MinLength(MIN_SHOT_FRAMES, shortest)), 0, None
    since_ms = 0.0
    with torch.inference_mode():
        while batch := list(islice(frames, _BATCH)):
            pixels = np.stack([each.pixels for each in batch])
            hsv = color.hsv_of(color.planes_of(torch.from_numpy(pixels)))
            scores = consecutive_difference(before, hsv).div(hsv[0, 0].numel()).mean(1)
            before = hsv[-1:]
            for frame, score in zip(batch, scores.tolist(), strict=True):
                is_far = frame.pts_ms - since_ms > joins_ms(rate)
                cut = rule.push(Cut(at, frame.pts_ms, score, since_ms, is_far))
                if cut is not None:
                    yield cut
                at, since_ms = at + 1, frame.pts_ms


def detect_with_scenedetect(path: str) -> dict[str, object]:
    """Find the cuts with the peer, as it comes."""
    from scenedetect import ContentDetector, SceneManager, open_video  # noqa: PLC0415 # only here

    started = time.process_time()
    manager = SceneManager()  # its default: scaled down to a width of 256 or a little more
    manager.add_detector(ContentDetector())
    manager.detect_scenes(open_video(path))
    cuts = [start.frame_num for start, _ in manager.get_scene_list()[1:]]
    return {"cuts": cuts, "cpu_seconds": time.process_time() - started}

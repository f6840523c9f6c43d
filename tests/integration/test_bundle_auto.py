"""Sampling `auto` with a bundle: who walks into a quiet scene is found, for less decoding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.persons import RED, make_people

from inference.analyze import Analysis, Analyzer, Limits
from inference.backends import ErrorLog, Selection
from inference.device import Device
from inference.events import Event
from inference.forkserver import ForkServer
from inference.probe import probe
from inference.samples import FPS, Picture, paint_scene, pan, write_video
from inference.sampling import AUTO_FPS, Rate
from inference.sparse import plan_packets
from inference.survey import survey

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")

WIDTH, HEIGHT, SECONDS, GOP = 512, 288, 24, 36
VISIT = 9.3, 13.6
"""When somebody comes in and is gone again; both between keyframes, which are 1.5 s apart."""


def watch_a_room() -> Iterator[Picture]:
    """A fixed camera with noise; a red figure comes in, walks through half the view and goes."""
    noises = np.random.default_rng(4).integers(-4, 5, (12, HEIGHT, WIDTH, 3), np.int16)
    scene = pan(paint_scene(9, WIDTH, HEIGHT), 0.5, WIDTH, HEIGHT)
    room = scene.mean(2, keepdims=True).astype(np.int16)  # nothing in it is red
    for number in range(SECONDS * FPS):
        seen = room + np.roll(noises[number % 12], 7 * number, axis=(0, 1))
        since = number / FPS - VISIT[0]
        if 0 <= since < VISIT[1] - VISIT[0]:
            left = int(since) * WIDTH // 8
            seen[HEIGHT // 4 : HEIGHT * 3 // 4, left : left + WIDTH // 4] = RED
        yield seen.clip(0, 255).astype(np.uint8)


def persons_of(analysis: Analysis) -> list[Event]:
    """Its events of that type."""
    return [each for each in analysis.results.events if each.event_type == "person"]


def count_decoded(path: Path, rate: Rate) -> int:
    """How many packets a decoder decodes; with `auto` the keyframes once more, for the survey."""
    facts, chosen, looks = probe(path, 60, lambda: None), None, 0
    if rate == "auto":
        chosen = survey(path, facts, threads=1, log=ErrorLog(), tick=lambda: None)
        looks = len(facts.keyframes)
    needed = plan_packets(facts, Selection(AUTO_FPS, None, chosen))
    return looks + (len(facts.pts) if needed is None else int(needed.sum()))


@pytest.mark.filterwarnings("ignore:missing time_base")  # decoders have no filter for warnings
async def test_who_walks_into_a_quiet_scene(tmp_path: Path, server: ForkServer) -> None:
    """One row with the times and attributes of five frames a second, for fewer decoded frames."""
    bundle, path = make_people(tmp_path / "bundle"), tmp_path / "room.mp4"
    options = {"preset": "veryfast", "crf": "24", "g": str(GOP), "x264-params": "scenecut=0"}
    write_video(path, enumerate(watch_a_room()), options=options)
    device = Device("cpu", bundle=bundle.root)

    async def find(rate: Rate) -> Analysis:
        analyzer = Analyzer(
            device,
            server,
            sample_fps=rate,
            limits=Limits(60),
            batch_size=8,
            manifest=bundle.manifest,
        )
        return await analyzer.analyze(path, lambda _, __: None)

    dense, found = await find(AUTO_FPS), await find("auto")
    await device.close()

    (person,), (expected,) = persons_of(found), persons_of(dense)
    assert (person.start_ms, person.end_ms) == (expected.start_ms, expected.end_ms)
    late_ms = np.subtract((person.start_ms, person.end_ms), np.multiply(VISIT, 1000))
    assert (late_ms >= 0).all()
    assert late_ms.max() <= 1000 / AUTO_FPS
    assert (person.gender, person.age_group) == ("male", "middle")
    assert person.score == expected.score
    assert found.frames_analyzed < 0.6 * dense.frames_analyzed
    assert count_decoded(path, "auto") < 0.6 * count_decoded(path, AUTO_FPS)

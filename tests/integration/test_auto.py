"""Sampling `auto`: where something happens as at five frames a second, elsewhere keyframes."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from tests.factories_video import corrupt_packets, decode_all, make_video, run_ffmpeg
from tests.integration.test_analyze import strike
from tests.integration.test_resume import Attempt, Notebook, assert_same

from inference.analyze import Analysis, Analyzer, Limits
from inference.backends import ErrorLog, Selection
from inference.device import Device
from inference.forkserver import ForkServer
from inference.probe import probe
from inference.samples import FPS, Picture, paint_scene, pan, write_video
from inference.sampling import AUTO_FPS
from inference.sparse import plan_packets
from inference.survey import survey

WIDTH, HEIGHT, SECONDS, GOP = 640, 360, 45, 36
X264 = {"preset": "veryfast", "crf": "24", "g": str(GOP), "x264-params": "scenecut=0"}
VISIT = 19.7, 20.8
"""All of it between two keyframes."""
PASSAGE = 24.2, 27.6
FROZEN = 8.2, 13.1
BLACK = 31.2, 34.7
CUT = 40.25


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device on the CPU that ends with the test."""
    device = Device("cpu", threads=1)
    yield device
    await device.close()


def watch_a_room() -> Iterator[Picture]:
    """A fixed camera with noise; a ball comes and goes, the picture freezes, turns black, cuts."""
    random = np.random.default_rng(4)
    rooms = [pan(paint_scene(seed, WIDTH, HEIGHT), 0.5, WIDTH, HEIGHT) for seed in (9, 12)]
    noises = random.integers(-4, 5, (12, HEIGHT, WIDTH, 3), np.int16)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = rooms[0]
    for number in range(SECONDS * FPS):
        seconds = number / FPS
        if FROZEN[0] <= seconds < FROZEN[1]:
            yield picture
            continue
        seen = rooms[seconds >= CUT] + np.roll(noises[number % 12], 7 * number, axis=(0, 1))
        for start, end in (VISIT, PASSAGE):
            way = (seconds - start) / (end - start)
            if 0 <= way < 1:
                seen[np.hypot(x - way * WIDTH, y - 200) < 40] = (250, 240, 120)
        picture = seen.clip(0, 255).astype(np.uint8)
        yield np.zeros_like(picture) if BLACK[0] <= seconds < BLACK[1] else picture


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that camera."""
    path = tmp_path_factory.mktemp("room") / "room.mp4"
    write_video(path, enumerate(watch_a_room()), options=X264)
    return path


def keyframe_times(path: Path) -> list[float]:
    """When keyframes are shown; milliseconds."""
    with av.open(str(path)) as container:
        keyframes = [each for each in container.decode(video=0) if each.key_frame]
    return [each.time * 1000 for each in keyframes if each.time is not None]


def times_of(analysis: Analysis, kind: str) -> list[tuple[int, int]]:
    """Events of one type."""
    found = [each for each in analysis.results.events if each.event_type == kind]
    return [(each.start_ms, each.end_ms) for each in found]


async def test_what_happens_is_found(device: Device, server: ForkServer, room: Path) -> None:
    """All events are those of five frames a second; of what is quiet, keyframes are analysed."""
    dense = await Attempt(room, device, server, Notebook(), 5.0).complete()

    found = await Attempt(room, device, server, Notebook(), "auto").complete()

    for kind, tolerance_ms, count in (
        ("shot", 2, 4),
        ("black", 250, 1),
        ("freeze", 250, 2),
        ("motion", 450, 2),
    ):
        ours, theirs = times_of(found, kind), times_of(dense, kind)
        assert len(ours) == len(theirs) == count, (kind, ours, theirs)
        assert np.abs(np.subtract(ours, theirs)).max() <= tolerance_ms, (kind, ours, theirs)
    assert found.frames_decoded == dense.frames_decoded == SECONDS * FPS


async def test_quiet_stretches(room: Path) -> None:
    """Where nothing happens only keyframes come, elsewhere they and what five a second takes."""
    keyframes, dense = keyframe_times(room), await decode_all(room, sample_fps=5.0)

    found = await decode_all(room, sample_fps="auto")

    starts = [0, 1500, 3000, 4500, 6000, 13_500, 15_000, 16_500, 18_000, 21_000, 22_500, 28_500]
    starts += [36_000, 37_500, 40_500, 42_000]
    busy = [time for time in dense.times_ms if 1500 * (time // 1500) not in starts]
    assert found.times_ms == pytest.approx(sorted({*keyframes, *busy}), abs=1.0)
    shown = dict(zip(dense.times_ms, dense.pixels, strict=True))
    both = [at for at, time in enumerate(found.times_ms) if time in shown]
    assert len(both) > 100
    assert all(np.array_equal(found.pixels[at], shown[found.times_ms[at]]) for at in both)
    assert found.opened.backend == "sparse"
    assert found.finished is not None
    assert found.finished.decoded == SECONDS * FPS


@pytest.mark.filterwarnings("ignore:missing time_base")  # decoders have no filter for warnings
def test_little_is_decoded(room: Path) -> None:
    """Of a quiet group nothing but its keyframe is decoded, once more than by the survey."""
    facts = probe(room, 3600, lambda: None)
    chosen = survey(room, facts, threads=1, log=ErrorLog(), tick=lambda: None)

    needed = plan_packets(facts, Selection(AUTO_FPS, None, chosen))

    assert needed is not None
    of_groups = needed.reshape(-1, GOP)
    assert of_groups[:, 0].all()
    assert [int(group[1:].sum()) for group in of_groups[[0, 1, 2, 3, 4, 9]]] == [0] * 6
    assert (of_groups[[5, 13, 16, 29]].sum(1) > GOP / 2).all()


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
async def test_containers(tmp_path: Path, room: Path, suffix: str) -> None:
    """The same frames come out of another container."""
    path = tmp_path / f"v{suffix}"
    run_ffmpeg("-i", room, "-c", "copy", path)
    expected = await decode_all(room, sample_fps="auto")

    found = await decode_all(path, sample_fps="auto")

    late = found.times_ms[0] - expected.times_ms[0]
    assert np.subtract(found.times_ms, late) == pytest.approx(expected.times_ms, abs=1.0)


async def test_tolerant_agrees(room: Path) -> None:
    """The backend for what is damaged hands over the same frames of what is not."""
    expected = await decode_all(room, sample_fps="auto")

    found = await decode_all(room, sample_fps="auto", tolerant=True)

    assert found.opened.backend == "tolerant"
    assert found.times_ms == expected.times_ms
    assert all(map(np.array_equal, found.pixels, expected.pixels))


async def test_goes_on(device: Device, server: ForkServer, room: Path) -> None:
    """An analysis that is stopped in what is quiet or not goes on to the same rows."""
    whole = await Attempt(room, device, server, Notebook(), "auto").complete()
    for fraction in (0.4, 0.6, 0.85):
        notebook = Notebook()
        await Attempt(room, device, server, notebook, "auto").stop_at(fraction)
        last = Attempt(room, device, server, notebook, "auto")

        resumed = await last.complete()

        assert_same(resumed, whole)
        assert last.frames < whole.frames_analyzed
    other = Attempt(room, device, server, notebook, 5.0)
    assert (await other.complete()).frames_analyzed == other.frames


async def test_damaged_keyframe(tmp_path: Path, room: Path) -> None:
    """A keyframe that cannot be decoded ends the choosing: everything is sampled."""
    path = tmp_path / "v.mp4"
    path.write_bytes(room.read_bytes())
    corrupt_packets(path, 10 * GOP, 10 * GOP + 1, keep=8)
    dense = await decode_all(path, sample_fps=5.0)

    found = await decode_all(path, sample_fps="auto")

    assert found.times_ms == dense.times_ms
    assert found.gaps == dense.gaps
    assert len(found.gaps) == 1


async def test_damage_where_something_happens(
    tmp_path: Path, device: Device, server: ForkServer, room: Path
) -> None:
    """Damage is a gap, what was chosen stays chosen, and what is gone on with has the same rows."""
    path = tmp_path / "v.mp4"
    path.write_bytes(room.read_bytes())
    corrupt_packets(path, 600, 606, keep=40)
    expected = await decode_all(room, sample_fps="auto")
    whole = await Attempt(path, device, server, Notebook(), "auto").complete()
    notebook = Notebook()
    await Attempt(path, device, server, notebook, "auto").stop_at(0.7)

    found = await decode_all(path, sample_fps="auto")
    resumed = await Attempt(path, device, server, notebook, "auto").complete()

    assert found.finished is not None
    assert found.finished.backend == "tolerant"
    gap = found.gaps[0]
    assert [time for time in expected.times_ms if time not in found.times_ms] == [
        time for time in expected.times_ms if gap.start_ms <= time < gap.end_ms
    ]
    assert_same(resumed, whole)


async def test_a_decoder_that_fails(device: Device, server: ForkServer, room: Path) -> None:
    """Its second chance is without a choice: that may be what it failed in."""
    dense = await decode_all(room, sample_fps=5.0)
    analyzer = Analyzer(device, server, sample_fps="auto", limits=Limits(3600), batch_size=8)

    found = await analyzer.analyze(room, strike(room, signal.SIGKILL, times=1))

    assert found.frames_analyzed == len(dense.times_ms)


OTHER: dict[str, Callable[[Path], Path]] = {
    "one": lambda d: make_video(d / "v.mp4", frames=96, options={**X264, "g": "96"}),
    "intra": lambda d: make_video(d / "v.mp4", frames=96, options={**X264, "g": "1"}),
    "avi": lambda d: make_video(d / "v.avi", codec="mpeg4", frames=240, options={"g": "12"}),
    "busy": lambda d: make_video(d / "v.mp4", frames=480, options={**X264, "g": "24"}),
}


@pytest.mark.parametrize("kind", OTHER)
async def test_nothing_to_choose(tmp_path: Path, kind: str) -> None:
    """Files of one group, of nothing but keyframes, no times, or no rest: five frames a second."""
    path = OTHER[kind](tmp_path)
    dense = await decode_all(path, sample_fps=5.0)

    found = await decode_all(path, sample_fps="auto")

    assert found.times_ms == dense.times_ms
    assert found.opened.backend == dense.opened.backend


@pytest.mark.filterwarnings("ignore:missing time_base")  # as above
def test_what_cannot_be_surveyed(room: Path) -> None:
    """No source as slow as the rate, no packets that may promise too much, no endless groups."""
    facts = probe(room, 3600, lambda: None)
    slow = replace(facts, info=replace(facts.info, fps=5.0))
    few = np.delete(facts.keyframes, slice(5, 20))
    long = replace(facts, keyframes=few, info=replace(facts.info, fps=9.0))
    ticks = list[int]()

    chosen = [
        survey(room, each, threads=1, log=ErrorLog(), tick=lambda: ticks.append(1))
        for each in (facts, slow, replace(facts, is_sound=False), long)
    ]

    assert chosen[0] is not None
    assert len(chosen[0]) < 0.6 * 225
    assert chosen[1:] == [None, None, None]
    assert len(ticks) >= len(facts.pts)


@pytest.mark.filterwarnings("ignore:missing time_base")  # as above
def test_larger_frames(tmp_path: Path) -> None:
    """A bundle that wants larger frames changes nothing: specks are too small to count."""
    path, random = tmp_path / "v.mp4", np.random.default_rng(5)
    noises = random.integers(-4, 5, (13, HEIGHT, WIDTH, 3), np.int16)
    room = pan(paint_scene(9, WIDTH, HEIGHT), 0.5, WIDTH, HEIGHT)
    specks = np.zeros((HEIGHT, WIDTH, 3), np.int16)
    for top, left in random.integers(0, (HEIGHT // 16, WIDTH // 16), (60, 2)) * 16:
        specks[top : top + 4, left : left + 4] = 25
    pictures = (
        (room + noises[number % 13] + specks * (number // 12 % 2)).clip(0, 255).astype(np.uint8)
        for number in range(144)
    )
    write_video(path, enumerate(pictures), options={**X264, "g": "12"})
    facts = probe(path, 60, lambda: None)

    chosen = [
        survey(path, each, threads=1, log=ErrorLog(), tick=lambda: None)
        for each in (facts, replace(facts, frame_side=WIDTH))
    ]

    assert chosen[0] is not None
    assert np.array_equal(chosen[0], chosen[1] if chosen[1] is not None else [])

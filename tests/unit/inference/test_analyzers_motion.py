"""Motion against made scenes whose truth is known."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.engine import Engine
from inference.events import Event
from inference.timeline import Timeline

torch.set_num_threads(1)

HEIGHT, WIDTH = 72, 128

Clip = npt.NDArray[np.uint8]
Light = Callable[[float], tuple[float, float]]


def make_clip(
    seconds: float,
    fps: float,
    moves: list[tuple[float, float]],
    *,
    light: Light = lambda _: (1.0, 0.0),
    noise: float = 3.0,
    speed: float = 30.0,
) -> Clip:
    """A textured room, camera noise, and a box that moves during `moves` (seconds).

    `light` gives gain and offset at a time; `speed` is in pixels a second.
    """
    rng = np.random.default_rng(8)
    room = rng.integers(40, 200, (9, 16)).repeat(8, 0).repeat(8, 1).astype(np.float64)
    frames = []
    for at in range(round(seconds * fps)):
        time = at / fps
        moved = sum(np.clip(time - start, 0, end - start) for start, end in moves)
        picture = room.copy()
        left = 4 + round(speed * float(moved)) % (WIDTH - 24)
        picture[30:50, left : left + 12] = 230
        gain, offset = light(time)
        grey = picture * gain + offset + rng.normal(0, noise, room.shape)
        frames.append(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
    return np.repeat(np.stack(frames)[..., None], 3, axis=3)


def motion(clip: Clip, fps: float) -> list[Event]:
    """The motion events of a clip."""
    engine, times = Engine("cpu"), np.arange(len(clip)) * 1000 / fps
    timeline = Timeline(source_fps=25, sample_fps=fps)
    timeline.push(times, engine.features(engine.open(), clip, times))
    results = timeline.finish(len(clip) * 1000 / fps)
    return [event for event in results.events if event.event_type == "motion"]


@pytest.mark.parametrize("fps", [5, 12.5, 25])
@pytest.mark.parametrize("speed", [15, 40, 80])
def test_object(fps: float, speed: float) -> None:
    """An object's activity is found within 0.4 s at its start and 0.6 s at its end."""
    clip = make_clip(10, fps, [(2, 4), (6, 8.5)], speed=speed)

    events = motion(clip, fps)

    times = [(event.start_ms, event.end_ms) for event in events]
    assert len(times) == 2
    np.testing.assert_allclose([start for start, _ in times], [2000, 6000], atol=400)
    np.testing.assert_allclose([end for _, end in times], [4000, 8500], atol=600)
    assert all(0.005 <= (event.score or 0) < 0.2 for event in events)


@pytest.mark.parametrize("fps", [5, 25])
@pytest.mark.parametrize("noise", [0, 3, 8])
def test_camera_noise(fps: float, noise: float) -> None:
    """A camera's noise alone is no motion."""
    assert motion(make_clip(6, fps, [], noise=noise), fps) == []


LIGHTS: dict[str, Light] = {
    "switched on": lambda time: (1.0, 0.0) if time < 3 else (1.25, 8.0),
    "switched off": lambda time: (1.0, 0.0) if time < 3 else (0.5, 0.0),
    "dimmed": lambda time: (1.0 - 0.6 * min(max(time - 2, 0) / 2, 1), 0.0),
    "flickering": lambda time: (1.0 + 0.12 * np.sin(7 * time), 0.0),
    "haze": lambda time: (1.0 - 0.1 * time / 6, 5.0 * time),
}


@pytest.mark.parametrize("fps", [5, 25])
@pytest.mark.parametrize("name", LIGHTS)
def test_light(fps: float, name: str) -> None:
    """A change of the light over the whole picture is no motion."""
    assert motion(make_clip(6, fps, [], light=LIGHTS[name]), fps) == []


@pytest.mark.parametrize("fps", [5, 25])
def test_object_while_the_light_changes(fps: float) -> None:
    """An object is found while the light dims, and only while it moves."""
    clip = make_clip(8, fps, [(3, 5)], light=LIGHTS["dimmed"])

    events = motion(clip, fps)

    assert len(events) == 1
    assert abs(events[0].start_ms - 3000) <= 400
    assert abs(events[0].end_ms - 5000) <= 600


@pytest.mark.parametrize("fps", [5, 25])
def test_cut(fps: float) -> None:
    """A cut to another picture is no motion."""
    first = make_clip(3, fps, [])
    clip = np.concatenate([first, 255 - first[:, ::-1]])

    assert motion(clip, fps) == []


@pytest.mark.parametrize("fps", [5, 25])
def test_large_object(fps: float) -> None:
    """A large bright object is not taken for light: the area is what it covers and uncovers."""
    clip = make_clip(8, fps, [])
    for at in range(len(clip)):
        edge = round(40 * np.clip(at / fps - 2, 0, 3))
        clip[at, 12:, max(edge - 60, 0) : edge] = 230

    events = motion(clip, fps)

    assert len(events) == 1
    assert (events[0].score or 0) < 0.3
    assert abs(events[0].start_ms - 2000) <= 400
    assert abs(events[0].end_ms - 5000) <= 600


@pytest.mark.parametrize("fps", [5, 25])
def test_slide_show(fps: float) -> None:
    """Cuts that follow each other quickly do not add up to motion."""
    slides = [make_clip(0.8, fps, []), 255 - make_clip(0.8, fps, [])]

    assert motion(np.concatenate(slides * 4), fps) == []


@pytest.mark.parametrize("fps", [5, 25])
def test_flash(fps: float) -> None:
    """A white frame, and the picture back after it, is no motion."""
    clip = make_clip(4, fps, [])
    clip[len(clip) // 2] = 255

    assert motion(clip, fps) == []


@pytest.mark.parametrize("fps", [5, 25])
def test_moving_camera(fps: float) -> None:
    """A fast camera is motion, although each frame is nearly another picture."""
    wide = np.random.default_rng(3).integers(0, 256, (9, 150)).repeat(8, 0).repeat(8, 1)
    steps = np.clip(np.arange(round(6 * fps)) / fps - 2, 0, 2) * 400
    frames = [wide[:, round(step) : round(step) + WIDTH] for step in steps]
    clip = np.repeat(np.stack(frames)[..., None], 3, axis=3).astype(np.uint8)

    events = motion(clip, fps)

    assert len(events) == 1
    assert abs(events[0].start_ms - 2000) <= 600
    assert abs(events[0].end_ms - 4000) <= 600


def test_until_the_end() -> None:
    """Motion that the end of the video interrupts lasts until that end."""
    events = motion(make_clip(4, 25, [(2, 9)]), 25)

    assert [event.end_ms for event in events] == [4000]


def test_nearly_still() -> None:
    """A pause shorter than a second does not end an activity."""
    events = motion(make_clip(8, 25, [(2, 3.5), (4, 5.5)]), 25)

    assert len(events) == 1
    assert abs(events[0].end_ms - 5500) <= 600

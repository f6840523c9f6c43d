"""Sampling by presentation time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.sampling import Sampler, sample_indices

times = st.lists(st.integers(-(10**6), 10**8), min_size=1, max_size=200, unique=True).map(sorted)
rates = st.floats(0.01, 120)


@pytest.mark.parametrize(
    ("source_fps", "sample_fps", "expected"),
    [
        (30, 5, [0, 6, 12, 18, 24]),
        (30, 30, list(range(30))),
        (24, 5, [0, 5, 10, 15, 20]),
        (4, 5, [0, 1, 2, 3]),
        (30, 0.5, [0]),
    ],
)
def test_constant_rate(source_fps: float, sample_fps: float, expected: list[int]) -> None:
    """Of one second, the first frame of each interval is taken; a slow source gives all it has."""
    pts_ms = np.arange(source_fps) * 1000 / source_fps

    taken = sample_indices(pts_ms, sample_fps)

    assert taken.tolist() == expected


def test_rounded_times() -> None:
    """Times rounded to whole milliseconds, as in Matroska, select the same frames."""
    exact = np.arange(300) * 1000 / 30

    rounded = np.floor(exact)

    assert np.array_equal(sample_indices(rounded, 5), sample_indices(exact, 5))


def test_long_gap_costs_nothing() -> None:
    """After a stretch without frames, sampling goes on with the next frame."""
    pts_ms = np.array([0.0, 100.0, 5000.0, 5050.0, 5200.0])

    taken = sample_indices(pts_ms, 5)

    assert taken.tolist() == [0, 2, 4]


@given(times)
def test_every_frame(moments: list[int]) -> None:
    """Without a rate, every frame is taken."""
    taken = sample_indices(np.array(moments, np.float64), None)

    assert taken.tolist() == list(range(len(moments)))


@given(times, rates)
def test_streaming_agrees(moments: list[int], fps: float) -> None:
    """Deciding frame by frame takes the same frames as deciding on all at once."""
    pts_ms = np.array(moments, np.float64)
    sampler = Sampler(fps, float(pts_ms[0]))

    taken = [index for index, time in enumerate(pts_ms) if sampler.take(float(time))]

    assert taken == sample_indices(pts_ms, fps).tolist()


@given(times, rates)
def test_at_most_one_per_interval(moments: list[int], fps: float) -> None:
    """The first frame is taken, and never more frames than intervals have begun."""
    pts_ms = np.array(moments, np.float64)

    taken = sample_indices(pts_ms, fps)

    assert taken[0] == 0
    assert len(taken) <= (pts_ms[-1] - pts_ms[0] + 1) * fps / 1000 + 1

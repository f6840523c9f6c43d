"""Black and frozen stretches are those of ffmpeg, run here on the same pixels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parity import ours, peers, scenes

from inference.events import Event, Results

SEEDS = range(6)


def assert_same(
    events: list[Event], expected: list[peers.Interval], end_ms: float, within_ms: float = 0.6
) -> None:
    """Same intervals; by default to the millisecond that an event time is rounded to."""
    ours_ms = [(event.start_ms, event.end_ms) for event in events]
    peer_ms = [(a * 1000, end_ms if b is None else b * 1000) for a, b in expected]
    assert len(ours_ms) == len(peer_ms), (ours_ms, peer_ms)
    np.testing.assert_allclose(np.array(ours_ms), np.array(peer_ms), rtol=0, atol=within_ms)


def at_rate(clip: scenes.Clip, fps: int) -> Results:
    """Analyse a clip of constant frame rate."""
    return ours.analyze(clip, ours.frame_times(len(clip), fps), len(clip) * 1000 / fps)


@pytest.mark.parametrize("seed", SEEDS)
def test_mixed(seed: int) -> None:
    """Black and freeze of a clip with fades, noise, drift and flashes are the peer's."""
    rng = np.random.default_rng(seed)
    clip = np.concatenate([scenes.mixed(seed), scenes.still(rng, 55), scenes.black(rng, 55)])

    results = at_rate(clip, 25)

    end_ms = len(clip) * 40
    black, freeze = peers.black_intervals(clip, 25), peers.freeze_intervals(clip, 25)
    assert black
    assert freeze
    assert_same(ours.of_type(results, "black"), black, end_ms)
    assert_same(ours.of_type(results, "freeze"), freeze, end_ms)


@pytest.mark.parametrize("fps", [10, 25, 30, 60])
@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("closed", [True, False])
def test_around_two_seconds(fps: int, extra: int, *, closed: bool) -> None:
    """Stretches one frame around two seconds count as for the peer, at the end of a video too."""
    rng = np.random.default_rng(3)
    dark = np.zeros((2 * fps + extra, scenes.HEIGHT, scenes.WIDTH, 3), np.uint8)
    parts = [scenes.noisy(rng, 7, 9), dark, scenes.noisy(rng, 3, 9)]
    clip = np.concatenate(parts if closed else parts[:2])

    results = at_rate(clip, fps)

    end_ms = len(clip) * 1000 / fps
    assert_same(ours.of_type(results, "black"), peers.black_intervals(clip, fps), end_ms)
    assert_same(ours.of_type(results, "freeze"), peers.freeze_intervals(clip, fps), end_ms)


@pytest.mark.parametrize("share", [0.0, 0.015, 0.0199, 0.0201, 0.03])
@pytest.mark.parametrize("level", [20, 24, 25, 26, 27, 40])
def test_black_thresholds(share: float, level: int) -> None:
    """Grey levels and lit shares around both thresholds count as for the peer."""
    clip = np.full((60, 100, 100, 3), level, np.uint8)
    clip.reshape(60, -1, 3)[:, : round(share * 10000)] = 200
    clip[-1] = 255

    results = at_rate(clip, 25)

    assert_same(ours.of_type(results, "black"), peers.black_intervals(clip, 25), 2400)


def test_black_colours() -> None:
    """Dark colours are judged by the peer's luma, wherever it draws the line."""
    rng = np.random.default_rng(5)
    colours = rng.integers(0, 60, (40, 3)).astype(np.uint8)
    stretches = [np.broadcast_to(each, (22, 16, 16, 3)) for each in colours]
    white = np.full((1, 16, 16, 3), 255, np.uint8)
    clip = np.concatenate([part for each in stretches for part in (each, white)])

    results = at_rate(clip, 10)

    black = peers.black_intervals(clip, 10)
    assert 5 < len(black) < 35
    assert_same(ours.of_type(results, "black"), black, len(clip) * 100)


@pytest.mark.parametrize("sigma", [0.2, 0.3, 0.35, 0.4, 1.0])
def test_freeze_noise(sigma: float) -> None:
    """Noise below and above the threshold freezes as for the peer."""
    clip = scenes.noisy(np.random.default_rng(9), 80, sigma)

    results = at_rate(clip, 25)

    assert_same(ours.of_type(results, "freeze"), peers.freeze_intervals(clip, 25), len(clip) * 40)


def test_freeze_drift() -> None:
    """A drift that no two neighbours show ends the freeze, because the reference stays."""
    clip = scenes.drift(np.random.default_rng(2), 400, 0.004)

    results = at_rate(clip, 25)

    freeze = peers.freeze_intervals(clip, 25)
    assert len(freeze) > 1
    assert_same(ours.of_type(results, "freeze"), freeze, 16000)


@pytest.mark.parametrize(
    "clip", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((75, 8, 8, 3), np.uint8)]
)
def test_little_to_see(clip: scenes.Clip) -> None:
    """A single frame, and black from start to end, are what the peer makes of them."""
    results = at_rate(clip, 25)

    end_ms = len(clip) * 40
    assert_same(ours.of_type(results, "black"), peers.black_intervals(clip, 25), end_ms)
    assert_same(ours.of_type(results, "freeze"), peers.freeze_intervals(clip, 25), end_ms)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 200]), st.integers(1, 35)), min_size=1, max_size=8)
)
def test_any_stretches(stretches: list[tuple[int, int]]) -> None:
    """Any sequence of dark, nearly equal and bright stretches gives the peer's intervals."""
    clip = np.concatenate(
        [np.full((length, 4, 4, 3), level, np.uint8) for level, length in stretches]
    )
    # One pixel's step of one level: 16 pixels share 1/16, a quarter of the noise threshold.
    clip[::3, 0, 0] += 1

    results = at_rate(clip, 10)

    end_ms = len(clip) * 100
    assert_same(ours.of_type(results, "black"), peers.black_intervals(clip, 10), end_ms)
    assert_same(ours.of_type(results, "freeze"), peers.freeze_intervals(clip, 10), end_ms)


@pytest.mark.parametrize("seed", [21, 22, 23])
@pytest.mark.parametrize("steady", [True, False])
def test_file(tmp_path: Path, seed: int, *, steady: bool) -> None:
    """On an H.264 file, of steady or variable rate, they are those that ffmpeg finds by itself."""
    rng = np.random.default_rng(seed)
    parts = [scenes.pan(rng, 30), scenes.still(rng, 70), scenes.pan(rng, 30)]
    parts += [scenes.black(rng, 80, level=6), scenes.noisy(rng, 80, 8), scenes.still(rng, 80)]
    clip = np.concatenate(parts)
    steps = np.full(len(clip), 40) if steady else rng.integers(20, 90, len(clip))
    pts_ms = (np.cumsum(steps) - steps[0]).tolist()
    path = tmp_path / "clip.mkv"
    peers.encode(path, clip, pts_ms)

    results = ours.analyze(*peers.decode(path), end_ms=pts_ms[-1] + 40)

    black, freeze = peers.file_intervals(path)
    assert black
    assert len(freeze) >= 2
    assert_same(ours.of_type(results, "black"), black, pts_ms[-1] + 40)
    assert_same(ours.of_type(results, "freeze"), freeze, pts_ms[-1] + 40)


@pytest.mark.parametrize("seed", SEEDS)
def test_low_sampling_rate(seed: int) -> None:
    """At five frames a second a boundary is at most one sampling interval from the peer's."""
    rng = np.random.default_rng(seed)
    parts = [scenes.pan(rng, 31), scenes.still(rng, int(rng.integers(60, 80)))]
    parts += [scenes.pan(rng, 17), scenes.black(rng, int(rng.integers(60, 80)), level=4)]
    parts += [scenes.pan(rng, 23), scenes.black(rng, 71)]
    clip = np.concatenate(parts)
    end_ms = len(clip) * 40
    times = ours.frame_times(len(clip), 25)

    results = ours.analyze(clip[::5], times[::5], end_ms, sample_fps=5)

    found = {kind: ours.of_type(results, kind) for kind in ("black", "freeze")}
    peer = {"black": peers.black_intervals(clip, 25), "freeze": peers.freeze_intervals(clip, 25)}
    assert len(peer["black"]) == 2
    assert peer["freeze"]
    for kind, intervals in peer.items():
        assert_same(found[kind], intervals, end_ms, within_ms=200)

"""Shots are those of PySceneDetect, run here on the same pixels."""

from pathlib import Path

import numpy as np
import pytest
import scenedetect
from hypothesis import given, settings
from hypothesis import strategies as st
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector
from tests.parity import ours, peers, scenes

from inference.analyzers.cuts import AdaptiveCuts, ContentCuts, Cut

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_score(seed: int) -> None:
    """The content score of every frame is the peer's, to the last bit."""
    clip = scenes.mixed(seed)
    peer = peers.ScoredContentDetector()
    peers.cut_frames(peer, clip)

    scores = ours.measure(clip, ours.frame_times(len(clip), 25)).content_score

    assert max(peer.scores) > 27
    np.testing.assert_array_equal(scores, peer.scores)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (36, 64), (98, 54), (256, 256)])
def test_score_of_any_size(height: int, width: int) -> None:
    """Random pixels of any frame size up to the largest have the peer's score."""
    clip = np.random.default_rng(1).integers(0, 256, (5, height, width, 3)).astype(np.uint8)
    clip[3:] = clip[3:] // 86 * 127
    peer = peers.ScoredContentDetector()
    peers.cut_frames(peer, clip)

    scores = ours.measure(clip, ours.frame_times(5, 25)).content_score

    np.testing.assert_array_equal(scores, peer.scores)


@pytest.mark.parametrize("seed", SEEDS)
def test_content_cuts(seed: int) -> None:
    """Shots start where ContentDetector cuts, flashes and flicker merged as it does."""
    clip = scenes.mixed(seed)
    expected = peers.cut_frames(ContentDetector(), clip)

    results = ours.analyze(clip, ours.frame_times(len(clip), 25), len(clip) * 40)

    assert expected
    assert ours.shot_starts_ms(results) == [frame * 40 for frame in expected]


@pytest.mark.parametrize("seed", SEEDS)
def test_adaptive_cuts(seed: int) -> None:
    """The adaptive rule cuts where AdaptiveDetector does."""
    clip = scenes.mixed(seed)
    expected = peers.cut_frames(AdaptiveDetector(), clip)

    times = ours.frame_times(len(clip), 25)
    results = ours.analyze(clip, times, len(clip) * 40, cuts="adaptive")

    assert expected
    assert ours.shot_starts_ms(results) == [frame * 40 for frame in expected]


INTERESTING = st.sampled_from([0.0, 0.000001, 3.0, 14.9, 15.0, 26.9, 27.0, 45.0, 90.0])
SCORES = st.builds(
    lambda base, given: [given.get(at, base) for at in range(120)],
    INTERESTING,
    st.dictionaries(st.integers(0, 119), INTERESTING, max_size=40),
)


class GivenContent(ContentDetector):  # type: ignore[misc]  # scenedetect has no types
    """ContentDetector with scores that are given instead of measured."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self._given = iter(scores)

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: scenes.Clip) -> float:
        _ = timecode, frame_img
        return next(self._given)


class GivenAdaptive(AdaptiveDetector):  # type: ignore[misc]  # scenedetect has no types
    """AdaptiveDetector with scores that are given instead of measured."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self._given = iter(scores)

    _calculate_frame_score = GivenContent._calculate_frame_score


@pytest.mark.parametrize(
    ("peer", "rule"), [(GivenContent, ContentCuts), (GivenAdaptive, AdaptiveCuts)]
)
@settings(max_examples=200)
@given(scores=SCORES)
def test_any_scores(
    peer: type[GivenContent | GivenAdaptive],
    rule: type[ContentCuts | AdaptiveCuts],
    scores: list[float],
) -> None:
    """On any sequence of scores each rule decides as its peer."""
    expected = peers.cut_frames(peer(scores), np.zeros((len(scores), 2, 2, 3), np.uint8))
    decide = rule()

    cuts = [decide.push(Cut(at, at * 40.0, score)) for at, score in enumerate(scores)]

    assert [cut.frame for cut in cuts if cut] == expected


def test_file(tmp_path: Path) -> None:
    """On an H.264 file the shots are the scenes that PySceneDetect finds in it by itself."""
    path = tmp_path / "clip.mp4"
    clip = scenes.mixed(11)
    peers.encode(path, clip, range(0, 40 * len(clip), 40))
    expected = scenedetect.detect(str(path), ContentDetector(), start_in_scene=True)

    results = ours.analyze(*peers.decode(path), end_ms=40 * len(clip))

    assert len(expected) >= 3
    assert ours.shot_starts_ms(results) == [round(a.seconds * 1000) for a, _ in expected[1:]]


@pytest.mark.parametrize("seed", SEEDS)
def test_low_sampling_rate(seed: int) -> None:
    """At five frames a second a shot starts at most one sampling interval later than the peer's."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 70, 8).tolist()
    clip = np.concatenate([scenes.noisy(rng, length, 3) for length in lengths])
    every = peers.cut_frames(ContentDetector(), clip)
    sampled, times = clip[::5], ours.frame_times(len(clip), 25)[::5]

    results = ours.analyze(sampled, times, len(clip) * 40, sample_fps=5)

    late = [
        start - frame * 40 for start, frame in zip(ours.shot_starts_ms(results), every, strict=True)
    ]
    assert len(every) == 7
    assert all(0 <= each <= 200 for each in late)

"""A simulated shop: persons who come in, walk, stand and leave, as a fair detector sees them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from inference.people import Detections
from inference.tracks import Tracker

Floats = npt.NDArray[np.float64]
VIEW = np.array([8.0, 4.5])
"""Metres, width and height."""
BODY = np.array([0.5, 1.7])
STEPS = 30
"""Positions a second."""
FOUND, UNSURE, JITTER = 0.93, 0.15, 0.03
"""Share of persons that are found, of these that are unsure, and a box's error as a share of it."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One person's way through the view."""

    start: int
    """Step of the first position."""
    way: Floats
    """float64 [N, 2]: the centre at each step, in metres."""
    size: float

    def box(self, step: int) -> Floats | None:
        """Corners in metres; None while nothing or little of the person is in view."""
        at = step - self.start
        if not 0 <= at < len(self.way) or not 0.1 < self.way[at, 0] < VIEW[0] - 0.1:
            return None
        half = BODY * self.size / 2
        return np.concatenate((self.way[at] - half, self.way[at] + half))


def make_visits(rng: np.random.Generator, persons: int, seconds: int) -> list[Visit]:
    """Each comes in at one side, stops up to three times, and leaves at 0.7 to 1.7 m/s."""
    visits = []
    for _ in range(persons):
        stride = rng.uniform(0.7, 1.7) / STEPS
        at = np.array([rng.choice([-0.3, VIEW[0] + 0.3]), rng.uniform(1.2, VIEW[1] - 1.2)])
        way = []
        for _ in range(rng.integers(1, 4)):
            to = np.array([rng.uniform(0.5, VIEW[0] - 0.5), at[1] + rng.normal() / 2])
            to[1] = to[1].clip(1, VIEW[1] - 1)
            way += [_walk(at, to, stride), np.tile(to, (int(rng.uniform(0, 6) * STEPS), 1))]
            at = to
        way.append(_walk(at, np.array([rng.choice([-0.3, VIEW[0] + 0.3]), at[1]]), stride))
        start = int(rng.uniform(0, 0.8 * seconds) * STEPS)
        visits.append(Visit(start, np.concatenate(way), rng.uniform(0.7, 1.3)))
    return visits


def _walk(start: Floats, end: Floats, stride: float) -> Floats:
    steps = int(np.linalg.norm(end - start) / stride) + 1
    return np.linspace(start, end, steps)


def see(
    rng: np.random.Generator, visits: list[Visit], seconds: int, fps: float
) -> Iterator[tuple[float, Detections, list[int]]]:
    """Yield each frame's time in milliseconds, what is found, and whose visit each of it is."""
    for at in range(int(seconds * fps)):
        step, found = int(at * STEPS / fps), list[tuple[float, int, Floats]]()
        for number, visit in enumerate(visits):
            box = visit.box(step)
            if box is None or rng.random() > FOUND:
                continue
            error = rng.normal(size=4) * JITTER * np.tile(BODY * visit.size, 2)
            score = rng.uniform(0.2, 0.5) if rng.random() < UNSURE else rng.uniform(0.5, 0.95)
            found.append((score, number, ((box + error) / np.tile(VIEW, 2)).clip(0, 1)))
        found.sort(key=lambda each: -each[0])
        boxes = np.array([box for *_, box in found]).reshape(-1, 4)
        scores = np.array([score for score, *_ in found])
        yield step * 1000 / STEPS, Detections(boxes, scores), [number for _, number, _ in found]


def idf1(fps: float, *, persons: int, seed: int, seconds: int = 60) -> float:
    """How much of visits and tracks is the same, by the best pairing of both; 0..1.

    Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking",
    2016 (https://arxiv.org/abs/1609.01775). A track that was found once is none.
    """
    rng = np.random.default_rng(seed)
    visits = make_visits(rng, persons, seconds)
    tracker = Tracker(threshold=0.5, low=0.1, overlap=0.2, keep_seconds=1)
    pairs = [
        pair
        for pts_ms, found, whose in see(rng, visits, seconds, fps)
        for pair in zip(whose, tracker.push(pts_ms, found).tolist(), strict=True)
    ]
    whose, numbers = np.array(pairs).T
    names, tracks, times = np.unique(numbers, return_inverse=True, return_counts=True)
    is_track = (names >= 0) & (times >= 2)
    same = np.zeros((persons, len(names)))
    np.add.at(same, (whose, tracks), 1)
    rows, columns = linear_sum_assignment(same[:, is_track], maximize=True)
    shared = same[:, is_track][rows, columns].sum()
    return float(2 * shared / (len(pairs) + times[is_track].sum()))

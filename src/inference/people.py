"""Persons in frames and over time: plain values."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_PERSONS = 200
"""In one frame; of more, those with the best scores."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector saw in one frame, the best score first."""

    boxes: npt.NDArray[np.float64]
    """float64 [N, 4]: left, top, right, bottom as shares of the frame, 0..1."""
    scores: npt.NDArray[np.float64]
    """float64 [N], 0..1."""
    invalid: int = 0
    """Left out, because the model gave no number, or a box without area."""
    crowded: int = 0
    """Left out, because there were more than `MAX_PERSONS`."""

    def __post_init__(self) -> None:
        if self.boxes.shape != (*self.scores.shape, 4) or self.scores.ndim != 1:
            raise ValueError(f"{self.boxes.shape} boxes do not go with {self.scores.shape} scores")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model read off one person: a word with its score, a number, or nothing."""

    text: str | None = None
    score: float | None = None
    """Of the word, 0..1."""
    number: float | None = None
    invalid: bool = False
    """Nothing, because what the model gave is no number."""


@dataclass(frozen=True, slots=True)
class TrackVectors:
    """What the vectors of T tracks add up to, up to one frame and with it."""

    numbers: npt.NDArray[np.int64]
    """int64 [T]: the tracks' numbers."""
    sums: npt.NDArray[np.float32]
    """float32 [T, D]."""

    def __post_init__(self) -> None:
        if self.numbers.ndim != 1 or self.sums.ndim != 2 or len(self.numbers) != len(self.sums):
            raise ValueError(f"{self.sums.shape} sums do not go with {self.numbers.shape} tracks")

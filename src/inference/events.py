"""The results of an analysis: plain values, no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

PIPELINE = "builtin-1/analysis-1"
"""Name and version of the model, and the version of the analysis around it. Results of another
pipeline stand beside these, they do not replace them; raise a version when results change."""


EVENT_TYPES = frozenset({"shot", "black", "freeze", "motion", "decode_gap", "person"})
"""Those that mean the same whatever the bundle is; others are its attributes' names."""


def pipeline_of(model: str) -> str:
    """The pipeline of a bundle's name and version, or of `builtin`."""
    return PIPELINE if model == "builtin" else f"{model}/{PIPELINE.partition('/')[2]}"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened between two presentation times (milliseconds)."""

    event_type: str
    start_ms: int
    end_ms: int
    score: float | None = None
    track_id: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    """x, y, width, height as fractions of the frame, 0..1."""
    age: float | None = None
    age_group: str | None = None
    gender: str | None = None
    gender_score: float | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    best_ms: float | None = None
    """When it is seen best; None: any moment of it is as good, its middle for one."""
    thumbnail_key: str | None = None
    """Of its picture in the results bucket."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A unit vector that describes a frame, a shot or a track."""

    kind: Literal["frame", "shot", "track"]
    start_ms: int
    end_ms: int
    model: str
    vector: npt.NDArray[np.float32]
    """float32 [dimension], L2 norm 1."""
    track_id: int | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All events and embeddings of one video, ordered by start time."""

    events: tuple[Event, ...]
    embeddings: tuple[Embedding, ...]

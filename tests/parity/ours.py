"""Our analysis of given pixels, in the peers' terms."""

import numpy as np
import numpy.typing as npt
import torch
from tests.parity.scenes import Clip

from inference.engine import Engine
from inference.events import Event, Results
from inference.features import FrameFeatures
from inference.timeline import CutRule, Timeline

# The tests run side by side: more threads would only wait for each other.
torch.set_num_threads(1)


def frame_times(frames: int, fps: float) -> npt.NDArray[np.float64]:
    """Presentation times of a constant frame rate, in milliseconds."""
    return np.arange(frames) * 1000 / fps


def measure(clip: Clip, pts_ms: npt.NDArray[np.float64]) -> FrameFeatures:
    """The features of all frames."""
    engine = Engine("cpu")
    return engine.features(engine.open(), clip, pts_ms)


def analyze(
    clip: Clip,
    pts_ms: npt.NDArray[np.float64],
    end_ms: float,
    *,
    source_fps: float = 25,
    sample_fps: float | None = None,
    cuts: CutRule = "content",
) -> Results:
    """Events and embeddings of a clip."""
    timeline = Timeline(source_fps=source_fps, sample_fps=sample_fps, cuts=cuts)
    timeline.push(pts_ms, measure(clip, pts_ms))
    return timeline.finish(end_ms)


def of_type(results: Results, event_type: str) -> list[Event]:
    """The events of one type, by time."""
    return [event for event in results.events if event.event_type == event_type]


def shot_starts_ms(results: Results) -> list[int]:
    """Where shots start, without the first."""
    return [event.start_ms for event in of_type(results, "shot")][1:]

"""`poller bundle try`: a bundle over one local video, from the decoder to the persons."""

import asyncio
import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from inference.decode import Decoding, Limits, Request
from inference.errors import DecoderFailedError, DecodersUnavailableError, VideoRejectedError
from inference.events import Embedding, Event
from inference.forkserver import ForkServer
from inference.frames import FrameBatch
from inference.manifest import BundleError, DetectorPart, Manifest
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.persons import Persons
from inference.sights import Sight
from inference.slabs import Slabs
from inference.tracks import Tracker
from poller.bundles import bundle_at
from poller.cli import tables
from poller.cli.bundle import pick_device
from poller.errors import PermanentError, SettingsError
from poller.settings import load

_BATCH = 8
_LIMITS = Limits(
    max_seconds=4 * 3600, stall_seconds=30, total_seconds=24 * 3600, memory_bytes=4 << 30
)


@dataclass(slots=True)
class _Outcome:
    frames: int = 0
    crowded: int = 0
    invalid: int = 0
    surest: float | None = None
    """Score of a person in any frame; below `tracker.low` none is told."""
    events: list[Event] = field(default_factory=list)
    embeddings: list[Embedding] = field(default_factory=list)

    @property
    def persons(self) -> list[Event]:
        return [event for event in self.events if event.event_type == "person"]


async def trial(place: str, video: Path, device: str, fps: float, *, as_json: bool) -> int:
    """Show the persons that a bundle finds in a video; nothing is stored. Returns the exit code.

    Raises:
        SettingsError: the bundle cannot be used, or no decoder can be started.
        PermanentError: the video cannot be analysed.
    """
    try:
        async with bundle_at(place, load().work_dir) as bundle:
            said = bundle.manifest
            detector = _detector(said)
            torch.set_num_threads(1)  # as in the service
            models = Models.load(bundle, pick_device(device))
    except BundleError as error:
        raise SettingsError([str(error)]) from error
    tracker = Tracker(threshold=detector.threshold, **said.tracking.model_dump())
    try:
        persons = Persons(tracker, bundle.title, said.stretched)
        looks = min(fps, detector.fps or fps)
        outcome = await _run(models, persons, video, looks, said.frame_side)
    except (VideoRejectedError, DecoderFailedError) as error:
        raise PermanentError(error.reason, error.detail) from error
    except DecodersUnavailableError as error:
        raise SettingsError([f"decoders cannot be started: {error}"]) from error
    if as_json:
        sys.stdout.write(json.dumps(_document(outcome, said), indent=2) + "\n")
    else:
        _show(outcome, said)
    return 0


def _detector(said: Manifest) -> DetectorPart:
    if said.detector is None:
        raise BundleError("bundle.toml: without a detector there are no persons to find")
    return said.detector


async def _run(
    models: Models, persons: Persons, video: Path, fps: float, frame_side: int
) -> _Outcome:
    outcome = _Outcome()
    request = Request(
        video, sample_fps=fps, batch_size=_BATCH, threads=1, tolerant=False, frame_side=frame_side
    )
    with closing(Slabs.create(2, _BATCH * frame_side**2 * 3)) as slabs:
        async with ForkServer() as server, Decoding(server, request, _LIMITS, slabs) as decoding:
            async for part in decoding:
                if not isinstance(part, FrameBatch):
                    continue
                sights = await asyncio.to_thread(_look, models, part)
                for pts_ms, sight in zip(part.pts_ms.tolist(), sights, strict=True):
                    persons.push(pts_ms, sight.persons, sight.readings, sight.vectors)
                counts = models.sights(sights)
                outcome.frames += len(sights)
                outcome.invalid += int(counts.invalid.sum())
                outcome.crowded += int(counts.crowded.sum())
                scores = [*counts.scores.tolist(), *filter(None, [outcome.surest])]
                outcome.surest = max(scores, default=None)
                decoding.release(part)
            end_ms = 0.0 if decoding.finished is None else decoding.finished.end_ms
    outcome.events, outcome.embeddings = persons.finish(end_ms)
    return outcome


def _look(models: Models, batch: FrameBatch) -> list[Sight]:
    frames = torch.from_numpy(batch.pixels.copy()).permute(0, 3, 1, 2)
    return look_at(models, list(frames))


def _document(outcome: _Outcome, said: Manifest) -> dict[str, Any]:
    return {
        "frames": outcome.frames,
        "surest_score": outcome.surest,
        "threshold": _detector(said).threshold,
        "crowded": outcome.crowded,
        "invalid": outcome.invalid,
        "persons": [
            {
                "track_id": event.track_id, "start_ms": event.start_ms, "end_ms": event.end_ms,
                "score": event.score, "bbox": event.bbox, "age": event.age,
                "age_group": event.age_group, "gender": event.gender,
                "gender_score": event.gender_score, "attributes": event.attributes,
            }
            for event in outcome.persons
        ],
        "intervals": [
            {
                "event_type": event.event_type, "track_id": event.track_id,
                "start_ms": event.start_ms, "end_ms": event.end_ms, "score": event.score,
                "bbox": event.bbox, "attributes": event.attributes,
            }
            for event in outcome.events if event.event_type != "person"
        ],
        "embeddings": [
            {"track_id": each.track_id, "model": each.model, "numbers": len(each.vector)}
            for each in outcome.embeddings
        ],
    }  # fmt: skip


def _show(outcome: _Outcome, said: Manifest) -> None:
    console = Console(highlight=False, soft_wrap=True)
    why = "" if outcome.events else f": {_nobody(outcome, said)}"
    persons = "1 person" if len(outcome.persons) == 1 else f"{len(outcome.persons)} persons"
    console.print(f"{persons} in {outcome.frames} frames{why}")
    for event in outcome.events:
        times = f"{tables.clock(event.start_ms)} to {tables.clock(event.end_ms)}"
        words = [*tables.details(asdict(event)), f"score {event.score:.2f}"]
        indent = "  " if event.event_type == "person" else "    "
        console.print(f"{indent}{times}: {', '.join(words)}", markup=False)
    if outcome.crowded:
        console.print(f"{outcome.crowded} detections were beyond what one frame may hold")
    if outcome.invalid:
        console.print(f"{outcome.invalid} times a model gave what is no number")


def _nobody(outcome: _Outcome, said: Manifest) -> str:
    """Why there is nobody: what the surest score was, and what it would have had to be."""
    threshold, surest = _detector(said).threshold, outcome.surest
    if surest is None:
        low = said.tracking.low
        return (
            f"no box was a person with a score of {low:g} (tracker.low) or more;"
            f" threshold is {threshold:g}"
        )
    if surest < threshold:
        return f"the surest score was {surest:.4g}, threshold is {threshold:g}"
    return f"the surest score was {surest:.4g}, but of nobody in two frames"

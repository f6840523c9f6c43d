"""What `poller search` compares with: the vector of a picture, of words, or of a stored moment."""

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from inference.bundle import Bundle
from inference.features import DESCRIPTOR_MODEL
from inference.manifest import BundleError
from poller.cli import tables
from poller.errors import SettingsError
from poller.postgres.reports import Reports, Row

_FARTHEST_MS = 5_000
"""From the time asked for to the described frame that stands for it; there is one each second."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What is looked for."""

    title: str
    vector: str
    """As pgvector's text."""
    model: str
    """Whose vector it is: only those of the same model can be compared with it."""
    video_id: UUID | None = None
    """The video that it is from."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of a stored video, as it was typed."""

    video: str
    at: str
    of_person: bool = False
    """Not the picture is meant, but who is in it."""
    track: int | None = None
    """Which of those who are in it; None: there is only one."""


async def find_likeness(
    reports: Reports, asked: Path | Moment | str, bundle: Bundle | None
) -> Likeness:
    """The vector of a picture's file, of a stored moment, or of words.

    By the bundle's embedder where it has one, else by the built-in descriptor.

    Raises:
        SettingsError: there is no such picture or moment, or no text tower.
        UnavailableError: the database cannot be reached.
    """
    if isinstance(asked, Moment):
        return await _of_moment(reports, asked, _model(bundle))
    vector = _of_words(asked, bundle) if isinstance(asked, str) else _of_picture(asked, bundle)
    model = _model(bundle)
    return Likeness(f"Most like {asked}, by {model}", str(vector.tolist()), model)


async def find_videos(reports: Reports, text: str, option: str) -> list[UUID]:
    """Which videos are known as that.

    Raises:
        SettingsError: none.
    """
    found = [row["video_id"] for row in await reports.find_videos(text)]
    if not found:
        raise SettingsError([f"{option}: no video is known as {text}"])
    return found


def parse_time(text: str) -> int:
    """Read `90`, `1:30` or `0:01:30.5`; return milliseconds.

    Raises:
        ValueError: it is none of them.
    """
    parts = re.fullmatch(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)", text)
    if parts is None or (parts[2] and float(parts[3]) >= 60):
        raise ValueError(f"{text} is no time; write 90, 1:30 or 0:01:30.5")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return round((hours * 3600 + minutes * 60 + seconds) * 1000)


def _model(bundle: Bundle | None) -> str:
    """Whose vectors are compared; a bundle without an embedder stores none."""
    has_own = bundle is not None and bundle.manifest.embedder is not None
    return bundle.title if bundle is not None and has_own else DESCRIPTOR_MODEL


async def _of_moment(reports: Reports, asked: Moment, model: str) -> Likeness:
    try:
        at_ms = parse_time(asked.at)
    except ValueError as error:
        raise SettingsError([f"--at: {error}"]) from error
    video_id, *others = await find_videos(reports, asked.video, "--video")
    if others:
        line = f"{len(others) + 1} uploads are known as {asked.video}: name one by s3://"
        raise SettingsError([f"--video: {line}"])
    if asked.of_person:
        return await _of_person(reports, asked, video_id, at_ms, model)
    picture = await reports.picture_at(video_id, at_ms, model)
    if picture is None or abs(picture["start_ms"] - at_ms) > _FARTHEST_MS:
        last = f"; the nearest is at {tables.clock(picture['start_ms'])}" if picture else ""
        line = f"no picture of {asked.video} at {tables.clock(at_ms)} is stored by {model}{last}"
        raise SettingsError([f"--at: {line}"])
    shown = tables.clock(picture["start_ms"])
    title = f"Most like {asked.video} at {shown}, by {model}"
    return Likeness(title, picture["vector"], model, video_id)


async def _of_person(
    reports: Reports, asked: Moment, video_id: UUID, at_ms: int, model: str
) -> Likeness:
    seen = await reports.tracks_at(video_id, at_ms, model)
    fitting = [row for row in seen if asked.track in {None, row["track_id"]}]
    if len(fitting) == 1:
        (person,) = fitting
        title = f"Most like track {_told(person)} of {asked.video}, by {model}"
        return Likeness(title, person["vector"], model, video_id)
    when = f"in {asked.video} at {tables.clock(at_ms)}"
    if not seen:
        line = f"--at: {model} has seen nobody {when}; `poller status` says when somebody is seen"
    else:
        tracks = ", ".join(map(_told, seen))
        line = f"--track: {when} there are {tracks}: name one of them by its number"
    raise SettingsError([line])


def _told(person: Row) -> str:
    times = f"{tables.clock(person['start_ms'])} to {tables.clock(person['end_ms'])}"
    return f"{person['track_id']} ({times})"


def _of_picture(path: Path, bundle: Bundle | None) -> npt.NDArray[np.float32]:
    from inference import still  # noqa: PLC0415 - torch takes seconds

    try:
        if bundle is None or bundle.manifest.embedder is None:
            return still.describe_picture(path)
        picture = still.read_picture(path, bundle.manifest.frame_side)
    except ValueError as error:
        raise SettingsError([f"--image: {error}"]) from error
    except OSError as error:
        raise SettingsError([f"--image: {path}: {error.strerror}"]) from error

    import torch  # noqa: PLC0415

    from inference.models.batches import BatchSize  # noqa: PLC0415
    from inference.models.embedder import Embedder  # noqa: PLC0415

    try:
        embedder = Embedder.load(
            bundle, bundle.manifest.embedder, torch.device("cpu"), batch_size=BatchSize(1)
        )
    except BundleError as error:
        raise SettingsError([f"--image: {error}"]) from error
    with still.one_thread():
        (vector,) = embedder.embed([picture])
    if vector is None:
        raise SettingsError([f"--image: {bundle.title} sees no direction in {path}"])
    return vector


def _of_words(text: str, bundle: Bundle | None) -> npt.NDArray[np.float32]:
    if bundle is None:
        line = "the built-in descriptor knows no words: POLLER_MODEL must name a bundle with them"
        raise SettingsError([f"--text: {line}"])
    import torch  # noqa: PLC0415 - takes seconds

    from inference.models.text import TextTower  # noqa: PLC0415

    try:
        return TextTower.load(bundle, torch.device("cpu")).embed(text)
    except BundleError as error:
        raise SettingsError([f"--text: {error}"]) from error

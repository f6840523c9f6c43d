"""What the demo expects, compared with what came out. Values in, sentences out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference.samples import Sample
from poller.letters import reason_of
from poller.postgres.reports import Row, Where
from poller.rules.message import Requests, parse_message
from poller.sqs import Message


@dataclass(frozen=True, slots=True)
class Upload:
    """A sample video, where it went, and the id that the application gave it."""

    sample: Sample
    video_id: str
    where: Where


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that can be seen from outside after the work."""

    latest: Mapping[Where, Row]
    """Rows of `latest_analyses`."""
    audits: Mapping[Where, Row]
    """Rows of `audit_objects`."""
    timelines: Mapping[Where, Sequence[Row]]
    """Rows of `timeline`."""
    letters: Sequence[Message]
    """What is in the DLQ."""
    duplicates: int
    """The sum of `poller_duplicates_total`."""
    queued: int
    """Messages that are still in the queue, visible or not."""


def find_faults(uploads: Sequence[Upload], outcome: Outcome) -> list[str]:
    """Name each expected result that is missing."""
    faults = list(_message_faults(uploads, outcome))
    for upload in uploads:
        found = _video_faults(upload, outcome)
        faults.extend(f"{upload.sample.name}: {fault}" for fault in found)
    return faults


def _video_faults(upload: Upload, outcome: Outcome) -> Iterator[str]:
    if upload.where not in outcome.latest:
        yield "no analysis was begun"
        return
    latest, audit = outcome.latest[upload.where], outcome.audits[upload.where]
    if audit["analyses"] != 1:
        yield f"{audit['analyses']} analyses instead of one"
    if (audit["external_id"], audit["external_id_source"]) != (upload.video_id, "body"):
        yield f"its id is {audit['external_id']} from {audit['external_id_source']}"
    if upload.sample.rejected is not None:
        if (latest["state"], latest["error_code"]) != ("failed", upload.sample.rejected):
            yield f"{latest['state']} ({latest['error_code']}), not {upload.sample.rejected}"
        return
    if latest["state"] != "done":
        yield f"{latest['state']}: {latest['error_code']}: {latest['error_message']}"
        return
    if audit["event_rows"] != audit["events_counted"]:
        yield f"{audit['event_rows']} event rows, but {audit['events_counted']} were counted"
    if audit["embedding_rows"] == 0:
        yield "no vectors"
    yield from _event_faults(upload.sample, outcome.timelines[upload.where])


def _event_faults(sample: Sample, events: Sequence[Row]) -> Iterator[str]:
    for expected in sample.expected:
        tolerance = expected.tolerance_ms
        if not any(
            event["event_type"] == expected.event_type
            and abs(event["start_ms"] - expected.start_ms) <= tolerance
            and abs(event["end_ms"] - expected.end_ms) <= tolerance
            for event in events
        ):
            yield (
                f"no {expected.event_type} at {expected.start_ms} to {expected.end_ms} ms"
                f" (within {tolerance} ms)"
            )


def _message_faults(uploads: Sequence[Upload], outcome: Outcome) -> Iterator[str]:
    if outcome.queued:
        yield f"{outcome.queued} messages are still in the queue"
    if outcome.duplicates != len(uploads):
        yield f"{outcome.duplicates} duplicates were counted, not one for each upload"
    wanted = sorted((u.where, u.sample.rejected) for u in uploads if u.sample.rejected)
    found = sorted(letter for message in outcome.letters for letter in _describe(message))
    if found != wanted:
        yield f"the DLQ holds {found}, not {wanted}"


def _describe(letter: Message) -> list[tuple[Where, str]]:
    parsed = parse_message(letter.body, letter.texts)
    videos = parsed.videos if isinstance(parsed, Requests) else ()
    return [((video.bucket, video.key), reason_of(letter)) for video in videos]

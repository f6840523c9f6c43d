"""What goes to the results bucket: a picture of each event, and all of an analysis in one file.

Written before the commit, under keys with the fencing token: a worker that lost its lease writes
beside what is shown, never over it. What is shown is what a row of `events` names.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from inference.analyze import Analysis
from inference.events import Event
from inference.moments import count_unplanned, plan_moments
from inference.thumbnails import Album, Photographer
from poller import metrics
from poller.errors import PermanentError, RetryableError, UnavailableError
from poller.postgres.claims import Claimed
from poller.s3 import ObjectRevision, Objects

log = structlog.get_logger("poller.gallery")

SCHEMA = "poller-analysis-1"
PROBE_KEY = "analyses/writable"
"""Written to find out whether anything may be."""


class Gallery:
    """The results bucket, for one pipeline."""

    def __init__(
        self, objects: Objects, bucket: str, photographer: Photographer, pipeline: str
    ) -> None:
        self._objects = objects
        self._bucket = bucket
        self._photographer = photographer
        self._pipeline = pipeline

    async def check(self) -> None:
        """Write something.

        Raises:
            UnavailableError: the bucket is away, or may not be written to.
        """
        await self._put(PROBE_KEY, b"", "text/plain")

    async def show(
        self,
        claim: Claimed,
        revision: ObjectRevision,
        path: Path,
        analysis: Analysis,
        on_alive: Callable[[], None],
    ) -> Analysis:
        """Write pictures and the result file; return the analysis with the pictures' keys.

        A picture that cannot be made is left out and counted.

        Raises:
            UnavailableError: `results`, the bucket is away, or may not be written to: none of that
                is the video's fault.
        """
        events = analysis.results.events
        moments = plan_moments(events)
        if unplanned := count_unplanned(events):
            log.warning("pictures.too_many", analysis_id=claim.analysis_id, without=unplanned)
        album = await self._photographer.take(path, list(moments.values()), on_alive)
        prefix = f"analyses/{claim.analysis_id}/{claim.token}"
        shown = {
            seq: at for seq, moment in moments.items() if (at := album.find(moment)) is not None
        }
        if lacking := len(moments) - len(shown):
            metrics.ERRORS.labels("thumbnail").inc(lacking)
            log.warning(
                "pictures.lacking", analysis_id=claim.analysis_id, without=lacking, why=album.fault
            )
        for at in sorted(set(shown.values())):
            await self._put(_picture_key(prefix, album, at), album.pictures[at].jpeg, "image/jpeg")
            on_alive()
        keyed = tuple(
            replace(event, thumbnail_key=_picture_key(prefix, album, shown[seq]))
            if seq in shown
            else event
            for seq, event in enumerate(events)
        )
        cost = replace(analysis.cost, cpu_seconds=analysis.cost.cpu_seconds + album.cpu_seconds)
        results = replace(analysis.results, events=keyed)
        analysis = replace(analysis, results=results, cost=cost)
        document = self._describe(claim, revision, analysis)
        await self._put(f"{prefix}/result.json", json.dumps(document).encode(), "application/json")
        return analysis

    async def _put(self, key: str, body: bytes, content_type: str) -> None:
        try:
            await self._objects.put(self._bucket, key, body, content_type)
        except (PermanentError, RetryableError, UnavailableError) as error:
            detail = f"s3://{self._bucket} cannot be written to: {error}"
            raise UnavailableError("results", detail) from error

    def _describe(
        self, claim: Claimed, revision: ObjectRevision, analysis: Analysis
    ) -> dict[str, Any]:
        info, cost = analysis.info, analysis.cost
        return {
            "schema": SCHEMA,
            "video_id": str(claim.video_id),
            "analysis_id": claim.analysis_id,
            "lease_token": claim.token,
            "bucket": revision.bucket,
            "object_key": revision.key,
            "revision": revision.revision,
            "pipeline": self._pipeline,
            "size_bytes": revision.size_bytes,
            "duration_seconds": info.duration_seconds,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "codec": info.codec,
            "frames_decoded": analysis.frames_decoded,
            "frames_analyzed": analysis.frames_analyzed,
            "frames_skipped": analysis.frames_decoded - analysis.frames_analyzed,
            "cpu_seconds": cost.cpu_seconds,
            "device_seconds": cost.device_seconds,
            "cost_from_ms": None if cost.from_ms is None else round(cost.from_ms),
            "embeddings_count": len(analysis.results.embeddings),
            "events": list(_events(analysis.results.events)),
        }


def _picture_key(prefix: str, album: Album, at: int) -> str:
    return f"{prefix}/{round(album.pictures[at].pts_ms):09d}.jpg"


def _events(events: tuple[Event, ...]) -> Iterator[dict[str, Any]]:
    for seq, event in enumerate(events):
        box = event.bbox or (None, None, None, None)
        yield {
            "seq": seq,
            "event_type": event.event_type,
            "start_ms": event.start_ms,
            "end_ms": event.end_ms,
            "score": event.score,
            "track_id": event.track_id,
            **dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True)),
            "age": event.age,
            "age_group": event.age_group,
            "gender": event.gender,
            "gender_score": event.gender_score,
            "attributes": dict(event.attributes),
            "thumbnail_key": event.thumbnail_key,
        }

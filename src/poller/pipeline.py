"""The map: every stage of a job, in order. A new stage is a new line in `_work`.

message → claim → fetch → decode → infer → store → ack   (ack: `consumer.py`)
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from inference.analyze import Analyzer
from inference.errors import DecodersUnavailableError, DeviceFaultError
from poller.errors import PermanentError, RetryableError, UnavailableError
from poller.gallery import Gallery
from poller.heartbeat import Heartbeats
from poller.outcomes import (
    apply_remedy,
    decide_unclaimed,
    fail_unclaimed,
    note_batch,
    note_stored,
)
from poller.postgres.checkpoints import Checkpoints
from poller.postgres.claims import Claimed, Claims, Content, Delivery
from poller.postgres.results import Results
from poller.rules.failure import EXPECTED, GiveBack, Tries, decide_remedy
from poller.rules.message import VideoRequest
from poller.rules.verdict import Outcome, Stored
from poller.s3 import ObjectRevision, Objects, check_room
from poller.sqs import Message
from poller.stages import Stages
from poller.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Limits:
    """What a video may cost before it is refused."""

    max_video_bytes: int
    max_attempts: int


class Pipeline:
    """Takes one video of a message from its claim to its stored results."""

    def __init__(
        self,
        objects: Objects,
        claims: Claims,
        heartbeats: Heartbeats,
        analyzer: Analyzer,
        results: Results,
        workspace: Workspace,
        limits: Limits,
        gallery: Gallery | None = None,
    ) -> None:
        """`gallery` is where pictures and result files go, if they are wanted."""
        self._objects = objects
        self._claims = claims
        self._heartbeats = heartbeats
        self._analyzer = analyzer
        self._results = results
        self._workspace = workspace
        self._limits = limits
        self._gallery = gallery

    async def run(self, request: VideoRequest, message: Message, stages: Stages) -> Outcome:
        """Work on one video, and record in Postgres how it ended.

        When it is cancelled it gives the claim back, without counting the attempt.
        """
        claim: Claimed | None = None
        journal: Checkpoints | None = None
        stages.ids = {"bucket": request.bucket, "key": request.key}
        try:
            with stages.timed("claim"):
                content = await self._objects.head(request.bucket, request.key)
                video_id = await self._claims.bind(request)
                found = await self._claims.claim(
                    video_id,
                    Content(content.revision, content.size_bytes, content.modified_at),
                    Delivery(message.id, uuid4(), is_redriven=message.is_redriven),
                )
            if not isinstance(found, Claimed):
                return decide_unclaimed(found, message, random.random())
            claim, journal = found, self._results.journal(found)
            stages.ids |= {"video_id": str(video_id), "analysis_id": claim.analysis_id}
            await self._work(claim, content, message, journal, stages)
        except EXPECTED as error:
            remedy = decide_remedy(error, self._tries(claim, journal, message), random.random())
            if claim is None:
                return await fail_unclaimed(self._claims, request, message, remedy)
            return await asyncio.shield(apply_remedy(self._claims, claim, remedy))
        except asyncio.CancelledError:
            if claim is not None:
                stopped = GiveBack(timedelta(0), "interrupted", "the worker is stopping")
                await asyncio.shield(apply_remedy(self._claims, claim, stopped))
            raise
        return Stored()

    async def is_back(self, system: str, request: VideoRequest) -> bool:
        """Ask a system that was away; `request` is the video that missed it."""
        try:
            match system:
                case "postgres":
                    await self._claims.ping()
                case "s3":
                    await self._objects.head(request.bucket, request.key)
                case "disk":
                    content = await self._objects.head(request.bucket, request.key)
                    async with self._workspace.job() as job:
                        check_room(job, content.size_bytes)
                case "results" if self._gallery is not None:
                    await self._gallery.check()
                case "device" | "decoder":
                    await self._analyzer.start()
        except (UnavailableError, DeviceFaultError, DecodersUnavailableError):
            return False
        except (PermanentError, RetryableError):
            return True  # an answer, if not the one that was hoped for
        return True

    def _tries(self, claim: Claimed | None, journal: Checkpoints | None, message: Message) -> Tries:
        has_advanced = journal is not None and journal.has_advanced
        return Tries(
            attempts=claim.attempts if claim else message.receive_count,
            max_attempts=self._limits.max_attempts,
            device_faults=claim.device_faults if claim and not has_advanced else 0,
            receive_count=message.receive_count,
        )

    async def _work(
        self,
        claim: Claimed,
        revision: ObjectRevision,
        message: Message,
        journal: Checkpoints,
        stages: Stages,
    ) -> None:
        self._check_limits(claim, revision)
        async with self._heartbeats.hold(claim, message) as beat, self._workspace.job() as job:
            with stages.timed("fetch"):
                path = job / "video"
                await self._objects.fetch(revision, path, beat.keep)

            def on_batch(progress: float, frames: int) -> None:
                beat.report(progress)
                note_batch(frames)

            # decode and infer; only the rest, where an earlier claim has left checkpoints
            with stages.timed_failure("decode"):
                analysis = await self._analyzer.analyze(path, on_batch, beat.keep, journal)
            stages.add("decode", analysis.decode_seconds)
            stages.add("infer", analysis.infer_seconds)
            with stages.timed("store"):
                if self._gallery is not None:
                    analysis = await self._gallery.show(claim, revision, path, analysis, beat.keep)
                await self._results.store(claim, analysis, beat.keep)
        note_stored(claim, analysis)

    def _check_limits(self, claim: Claimed, revision: ObjectRevision) -> None:
        limits = self._limits
        if claim.attempts > limits.max_attempts:
            raise PermanentError(
                "attempts_exhausted",
                f"{limits.max_attempts} attempts ended without a result or an error, as when the"
                " worker dies; its log says more",
            )
        if revision.size_bytes > limits.max_video_bytes:
            raise PermanentError(
                "too_large",
                f"{revision.size_bytes} bytes are more than POLLER_MAX_VIDEO_BYTES"
                f" ({limits.max_video_bytes})",
            )

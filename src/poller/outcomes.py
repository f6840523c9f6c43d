"""How a video ended, written down: the analysis row, the metrics, the outcome to settle by."""

from collections import Counter
from datetime import timedelta
from typing import assert_never

import structlog

from inference.analyze import Analysis
from poller import metrics
from poller.errors import LeaseLostError, UnavailableError
from poller.postgres.claims import Claimed, Claims, Held, Terminal
from poller.rules import verdict
from poller.rules.failure import Abandon, Fail, GiveBack, HandOver, Remedy, Supersede
from poller.rules.lease import plan_busy_wait
from poller.rules.message import VideoRequest
from poller.rules.verdict import Outcome
from poller.sqs import Message

log = structlog.get_logger("poller.outcomes")

_HORIZON = "SQS hides a message for 12 hours in all; another one goes on"
_AFTER_OUTAGE = timedelta(seconds=5)


def decide_unclaimed(found: Held | Terminal, message: Message, jitter: float) -> Outcome:
    """Turn the reason why there is no claim into an outcome."""
    match found:
        case Held(wait):
            return verdict.Busy(plan_busy_wait(wait, message.receive_count, jitter))
        case Terminal("failed", message.id):
            # This very message led to the failure, and was not settled after it.
            return verdict.Failed(
                found.error_code or "failed", found.error_message or "-", found.attempts
            )
        case Terminal(state):
            metrics.DUPLICATES.labels(state).inc()
            return verdict.Duplicate(state)
        case _:
            assert_never(found)


async def apply_remedy(claims: Claims, claim: Claimed, remedy: Remedy) -> Outcome:
    """Write the remedy down under the fence and name the outcome."""
    try:
        await _record(claims, claim, remedy)
    except LeaseLostError as error:
        remedy = Abandon(error.cause)
    except UnavailableError as error:
        # The lease runs out by itself; the next claim finds out what is to be done.
        return _unwritten(error)
    return _outcome(remedy, claim.attempts)


async def fail_unclaimed(
    claims: Claims, request: VideoRequest, message: Message, remedy: Remedy
) -> Outcome:
    """Name the outcome of a video that could not be claimed, and write down what it means."""
    if isinstance(remedy, Fail) and remedy.reason in ("object_missing", "object_forbidden"):
        try:
            await claims.fail_unheld(request, remedy.reason, remedy.detail, message.id)
        except UnavailableError as error:
            return _unwritten(error)
    return _outcome(remedy, attempts=0)


async def _record(claims: Claims, claim: Claimed, remedy: Remedy) -> None:
    match remedy:
        case Fail(reason, detail):
            await claims.fail(claim, reason, detail)
            metrics.VIDEOS_FINISHED.labels("failed").inc()
        case GiveBack(after, cause, detail, _, counted):
            await claims.postpone(claim, after, counted=counted, reason=cause, detail=detail)
            metrics.VIDEOS_FINISHED.labels("retry").inc()
        case HandOver():
            await claims.postpone(
                claim, timedelta(0), counted=False, reason="handed_over", detail=_HORIZON
            )
            metrics.VIDEOS_FINISHED.labels("retry").inc()
        case Supersede():
            await claims.supersede(claim)
            metrics.VIDEOS_FINISHED.labels("superseded").inc()
        case Abandon():
            return
        case _:
            assert_never(remedy)


def _unwritten(error: UnavailableError) -> Outcome:
    metrics.ERRORS.labels(error.system).inc()
    return verdict.Postponed(_AFTER_OUTAGE, f"{error.system}_unavailable", away=error.system)


def _outcome(remedy: Remedy, attempts: int) -> Outcome:
    match remedy:
        case Fail(reason, detail):
            metrics.ERRORS.labels(reason).inc()
            return verdict.Failed(reason, detail, attempts)
        case GiveBack(after, cause, detail, away):
            metrics.ERRORS.labels(cause).inc()
            log.warning("video.given_back", cause=cause, detail=detail, after=after.total_seconds())
            if after:
                return verdict.Postponed(after, cause, away)
            return verdict.Interrupted(cause, away)
        case HandOver():
            log.info("video.handed_over", detail=_HORIZON)
            return verdict.HandedOver()
        case Supersede():
            return verdict.Superseded()
        case Abandon(cause):
            metrics.LEASE_LOST.labels(cause).inc()
            return verdict.Abandoned(cause)
        case _:
            assert_never(remedy)


def note_batch(frames: int) -> None:
    """Count a batch that the device has analysed."""
    metrics.FRAMES_INFERRED.inc(frames)
    metrics.BATCH_FRAMES.observe(frames)


def note_stored(claim: Claimed, analysis: Analysis) -> None:
    """Count what was committed, and tell what could have been better."""
    if analysis.unrefined:
        log.warning("cuts.unrefined", analysis_id=claim.analysis_id, why=analysis.unrefined)
    if analysis.retried:
        log.warning("decoder.retried", analysis_id=claim.analysis_id, why=analysis.retried)
        metrics.ERRORS.labels("decoder_retried").inc()
    metrics.VIDEOS_FINISHED.labels("done").inc()
    metrics.VIDEO_SECONDS.inc(analysis.info.duration_seconds)
    metrics.FRAMES_DECODED.inc(analysis.frames_decoded)
    metrics.ERRORS.labels("model_invalid").inc(analysis.invalid)
    metrics.ERRORS.labels("model_crowded").inc(analysis.crowded)
    metrics.EMBEDDINGS_STORED.inc(len(analysis.results.embeddings))
    for event_type, count in Counter(e.event_type for e in analysis.results.events).items():
        metrics.EVENTS_STORED.labels(event_type).inc(count)

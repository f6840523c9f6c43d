"""The last word on a message: its verdict carried out, in one place, and its log line."""

from datetime import UTC, datetime
from typing import assert_never

import structlog

from poller import metrics
from poller.errors import UnavailableError
from poller.rules.lease import plan_visibility
from poller.rules.verdict import Ack, Continue, DeadLetter, Hide, Leave, Outcome, Verdict
from poller.sqs import Message, Queue, StaleReceiptError
from poller.stages import Stages

log = structlog.get_logger("poller.settle")


class Settlement:
    """Carries verdicts out, through a client that no long poll delays."""

    def __init__(self, queue: Queue, dead_letters: Queue) -> None:
        self._queue = queue
        self._dead_letters = dead_letters

    async def apply(
        self, message: Message, verdict: Verdict, stages: Stages, outcomes: list[Outcome]
    ) -> None:
        """Settle the message. When that fails, it comes back by itself and is settled then."""
        name = type(verdict).__name__.lower()
        try:
            with stages.timed("ack"):
                await self._carry_out(message, verdict)
            metrics.MESSAGES_SETTLED.labels(name).inc()
        except StaleReceiptError as error:
            metrics.ERRORS.labels("stale_receipt").inc()
            log.warning("message.receipt_lost", message_id=message.id, error=str(error))
        except UnavailableError as error:
            metrics.ERRORS.labels("settle").inc()
            log.warning("message.not_settled", message_id=message.id, error=str(error))
        log.info(
            "video.finished",
            message_id=message.id,
            receive_count=message.receive_count,
            verdict=name,
            reason=verdict.reason if isinstance(verdict, DeadLetter) else None,
            hidden_seconds=verdict.after.total_seconds() if isinstance(verdict, Hide) else None,
            outcomes=[type(outcome).__name__.lower() for outcome in outcomes],
            seconds=stages.seconds,
            **stages.ids,
        )

    async def _carry_out(self, message: Message, verdict: Verdict) -> None:
        match verdict:
            case Ack():
                await self._queue.delete(message)
            case Hide(after):
                bounded = plan_visibility(after, message.received_at, datetime.now(UTC))
                if bounded is not None:
                    await self._queue.hide(message, bounded)
            case Continue(letter):
                if letter is not None:
                    await self._dead_letters.dead_letter(message, letter)
                await self._queue.send_again(message)
                await self._queue.delete(message)
            case DeadLetter():
                await self._dead_letters.dead_letter(message, verdict)
                await self._queue.delete(message)
            case Leave():
                return
            case _:
                assert_never(verdict)

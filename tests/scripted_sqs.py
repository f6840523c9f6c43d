"""A small SQS with an injected clock, a script of faults and a log of every call.

It speaks the JSON protocol to the service's own client, and keeps what emulators do not: a receipt
that is over changes nothing, twelve hours of visibility are all that a delivery gets, and a queue
may throttle. Codes and texts are those of the real service.
"""

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

TOTAL_SECONDS = 43_200
"""What a delivery may be hidden for in all, counted from its receive."""
_TARGET = "X-Amz-Target"


_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What SQS says instead of yes; `code` is the name that its clients show."""

    status: int
    code: str
    message: str

    @property
    def answer(self) -> web.Response:
        """The code is in a header, too: the clients of the older protocol knew others."""
        return web.json_response(
            {"__type": f"com.amazonaws.sqs#{self.code}", "message": self.message},
            status=self.status,
            headers={"x-amzn-query-error": f"{self.code};Sender"},
        )


class _RefusedError(Exception):
    """Ends a call with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def _invalid(value: object, name: str, reason: str) -> Refusal:
    text = f"Value {value} for parameter {name} is invalid. Reason: {reason}"
    return Refusal(400, "InvalidParameterValue", text)


THROTTLED = Refusal(400, "RequestThrottled", "Rate exceeded")
OVER_LIMIT = Refusal(403, "OverLimit", "Too many messages in flight")
UNAVAILABLE = Refusal(503, "ServiceUnavailable", "Service is unavailable")


@dataclass(slots=True)
class Call:
    """One request, from its arrival to its answer."""

    action: str
    request: _Json
    started: int
    """Place in the order of all beginnings and ends."""
    at: float
    """The clock's time when it came."""
    ended: int | None = None
    message_id: str | None = None
    refusal: Refusal | None = None
    took_effect: bool = False
    """Whether it changed a message that is there."""


@dataclass(slots=True)
class _Stored:
    """A message, and its latest delivery."""

    id: str
    body: str
    attributes: _Json
    visible_at: float
    receives: int = 0
    received_at: float = 0.0
    receipt: str = ""


class ScriptedSqs:
    """Queues by their URL; each works until its script says otherwise."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._queues: dict[str, list[_Stored]] = defaultdict(list)
        self._script: dict[str, deque[Refusal]] = defaultdict(deque)
        self._held: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._marks = iter(range(1_000_000))
        self._owners: dict[str, str] = {}
        self._actions = {
            "SendMessage": self._send,
            "ReceiveMessage": self._receive,
            "ChangeMessageVisibility": self._hide,
            "DeleteMessage": self._delete,
        }
        self.url = ""
        self.calls: list[Call] = []

    def refuse(self, action: str, refusal: Refusal, times: int) -> None:
        """Answer so to the next calls of this kind."""
        self._script[action].extend([refusal] * times)

    def hold(self, action: str) -> asyncio.Event:
        """Carry calls of this kind out, and answer them when the event is set."""
        self._held[action] = asyncio.Event()
        return self._held[action]

    def redeliver(self, message_id: str) -> None:
        """Show a message that is in flight again, as standard queues now and then do."""
        self._find(message_id).visible_at = self._clock()
        self._changed.set()

    def queue_url(self, name: str = "main") -> str:
        """The URL of a queue."""
        return f"{self.url}/000000000000/{name}"

    def messages(self, name: str = "main") -> list[str]:
        """Ids of the messages that are in a queue, hidden or not."""
        return [stored.id for stored in self._queues[self.queue_url(name)]]

    def of(self, action: str, message_id: str | None = None) -> list[Call]:
        """Calls of one kind, about one message or about any."""
        return [
            call
            for call in self.calls
            if call.action == action and message_id in (None, call.message_id)
        ]

    @property
    def is_idle(self) -> bool:
        """Whether every call has been answered."""
        return all(call.ended is not None for call in self.calls)

    async def answer(self, request: web.Request) -> web.Response:
        """Carry one call out and write it down."""
        wanted = await request.json()
        action = request.headers[_TARGET].rpartition(".")[2]
        call = Call(action, wanted, next(self._marks), self._clock())
        call.message_id = self._owners.get(wanted.get("ReceiptHandle", ""))
        self.calls.append(call)
        try:
            reply = await self._carry_out(call)
        except _RefusedError as error:
            call.refusal = error.refusal
            return error.refusal.answer
        else:
            return web.json_response(reply)
        finally:
            call.ended = next(self._marks)

    async def _carry_out(self, call: Call) -> _Json:
        if self._script[call.action]:
            raise _RefusedError(self._script[call.action].popleft())
        queue = self._queues[call.request["QueueUrl"]]
        reply = await self._actions[call.action](call, call.request, queue)
        if call.action in self._held:
            await self._held[call.action].wait()
        return reply

    async def _send(self, call: Call, wanted: _Json, queue: list[_Stored]) -> _Json:
        body = wanted["MessageBody"]
        attributes = wanted.get("MessageAttributes", {})
        stored = _Stored(f"m{call.started}", body, attributes, self._clock())
        queue.append(stored)
        call.message_id, call.took_effect = stored.id, True
        self._changed.set()
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": stored.id, "MD5OfMessageBody": digest}

    async def _receive(self, call: Call, wanted: _Json, queue: list[_Stored]) -> _Json:
        until = self._clock() + wanted["WaitTimeSeconds"]
        while not (found := [one for one in queue if one.visible_at <= self._clock()]):
            if self._clock() >= until:
                return {}
            self._changed.clear()
            next_at = min([until, *(one.visible_at for one in queue)])
            with suppress(TimeoutError):
                async with asyncio.timeout(next_at - self._clock()):
                    await self._changed.wait()
        found = found[: wanted["MaxNumberOfMessages"]]
        call.message_id = found[0].id
        return {"Messages": [self._deliver(one, wanted["VisibilityTimeout"]) for one in found]}

    async def _hide(self, call: Call, wanted: _Json, queue: list[_Stored]) -> _Json:
        stored, now = self._in_flight(queue, wanted["ReceiptHandle"]), self._clock()
        seconds = wanted["VisibilityTimeout"]
        if now - stored.received_at + seconds > TOTAL_SECONDS:
            raise _RefusedError(
                _invalid(
                    seconds,
                    "VisibilityTimeout",
                    "Total VisibilityTimeout for the message is beyond the limit"
                    f" [{TOTAL_SECONDS} seconds]",
                )
            )
        stored.visible_at, call.took_effect = now + seconds, True
        self._changed.set()
        return {}

    async def _delete(self, call: Call, wanted: _Json, queue: list[_Stored]) -> _Json:
        """Delete the message; with a receipt that is over say yes, and delete nothing."""
        self._check_receipt(wanted["ReceiptHandle"])
        kept = [one for one in queue if one.receipt != wanted["ReceiptHandle"]]
        call.took_effect = len(kept) < len(queue)
        queue[:] = kept
        return {}

    def _deliver(self, stored: _Stored, seconds: int) -> _Json:
        stored.receives += 1
        stored.received_at = self._clock()
        stored.visible_at = stored.received_at + seconds
        stored.receipt = f"{stored.id}/{stored.receives}"
        self._owners[stored.receipt] = stored.id
        return {
            "MessageId": stored.id,
            "ReceiptHandle": stored.receipt,
            "Body": stored.body,
            "MessageAttributes": stored.attributes,
            "Attributes": {"ApproximateReceiveCount": str(stored.receives)},
        }

    def _in_flight(self, queue: list[_Stored], receipt: str) -> _Stored:
        self._check_receipt(receipt)
        for stored in queue:
            if stored.receipt == receipt and stored.visible_at > self._clock():
                return stored
        reason = "Message does not exist or is not available for visibility timeout change."
        raise _RefusedError(_invalid(receipt, "ReceiptHandle", reason))

    def _check_receipt(self, receipt: str) -> None:
        if receipt not in self._owners:
            text = f'The input receipt handle "{receipt}" is not a valid receipt handle.'
            raise _RefusedError(Refusal(404, "ReceiptHandleIsInvalid", text))

    def _find(self, message_id: str) -> _Stored:
        return next(one for queue in self._queues.values() for one in queue if one.id == message_id)


@asynccontextmanager
async def scripted_sqs(clock: Callable[[], float]) -> AsyncIterator[ScriptedSqs]:
    """Serve on a loopback port."""
    queue = ScriptedSqs(clock)
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", queue.answer)])
    # A clock that leaps must not end connections that were idle for no time at all.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, keepalive_timeout=10**9)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        queue.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield queue
    finally:
        await runner.cleanup()

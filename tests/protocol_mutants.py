"""Claim protocols that leave out one precaution each."""

from collections.abc import Sequence
from typing import Any

from poller.errors import LeaseLostError
from poller.postgres.claims import Claimed
from poller.postgres.pool import Connection, query
from poller.postgres.results import Results
from poller.rules import verdict
from poller.rules.verdict import Ack, Busy, Outcome, Verdict
from tests.protocol import Protocol


class Answered:
    """A real connection that is told other SQL in place of one statement."""

    def __init__(self, connection: Connection, instead: dict[str, str]) -> None:
        self._connection = connection
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchval(self, text: str, *arguments: object, **options: Any) -> Any:
        """Run the statement, or the other one."""
        return await self._connection.fetchval(self._instead.get(text, text), *arguments, **options)


class Unfenced(Results):
    """Stores under the token that it once had, whoever holds the lease now."""

    async def _write(self, connection: Any, claim: Claimed, *rest: Any) -> None:
        fenced = query("finish")
        forgetful = fenced.replace("done_token = lease_token", "done_token = $2").replace(
            "lease_token = $2 AND lease_id = $3 AND state = 'processing'",
            "($2::int, $3::uuid) IS NOT NULL",
        )
        assert forgetful.count("$2") == fenced.count("$2") + 1
        await super()._write(Answered(connection, {fenced: forgetful}), claim, *rest)  # type: ignore[arg-type]  # a wrapper


class Noted:
    """Writes down what is asked of a connection."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def fetchval(self, *arguments: Any, **options: Any) -> bool:
        """Note a statement."""
        self.calls.append(("fetchval", arguments, options))
        return True

    async def copy_records_to_table(self, *arguments: Any, **options: Any) -> None:
        """Note a COPY."""
        self.calls.append(("copy_records_to_table", arguments, options))


class FenceFirst(Results):
    """Takes the fence, and then copies."""

    async def _write(self, connection: Any, claim: Claimed, *rest: Any) -> None:
        noted = Noted()
        await super()._write(noted, claim, *rest)  # type: ignore[arg-type]  # writes down only
        for name, arguments, options in sorted(noted.calls, key=lambda call: call[0] != "fetchval"):
            found = await getattr(connection, name)(*arguments, **options)
            if name == "fetchval" and found is None:
                raise LeaseLostError("fence")


def decide_hastily(outcomes: Sequence[Outcome]) -> Verdict:
    """Take "someone holds it" for "someone did it"."""
    held = any(isinstance(outcome, Busy) for outcome in outcomes)
    return Ack() if held else verdict.decide(outcomes)


NO_FENCE = Protocol(results=Unfenced)
NO_FENCE_NO_KEY = Protocol(results=Unfenced, keeps_key=False)
FENCE_FIRST = Protocol(results=FenceFirst)
DELETE_BEFORE_COMMIT = Protocol(deletes_first=True)
DELETE_ON_BUSY = Protocol(decide=decide_hastily)

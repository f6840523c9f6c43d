"""What SIGTERM does before there is anything to drain."""

import asyncio
import signal

import pytest

from poller.service import cancelled_on_signal


async def _start_and_close(*, fails: bool, closed: list[str]) -> None:
    """Start as the service does; SIGTERM comes while that is undone."""
    try:
        with cancelled_on_signal():
            if fails:
                raise LookupError
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(60)
    finally:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.05)
        closed.append("all")


@pytest.mark.parametrize(
    ("fails", "end"),
    [(True, LookupError), (False, asyncio.CancelledError)],
    ids=["fails", "given up"],
)
async def test_sigterm_does_not_cut_the_closing_short(
    fails: bool, end: type[BaseException]
) -> None:
    """A start that has failed, or was given up, still closes what it had opened, and says why."""
    closed = list[str]()

    with pytest.raises(end):
        await asyncio.create_task(_start_and_close(fails=fails, closed=closed))

    assert closed == ["all"]

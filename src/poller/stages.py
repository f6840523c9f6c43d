"""What a message's log line tells: its ids, and how long it spent in each stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from poller import metrics


class Stages:
    """Seconds per stage of one message, for its log line and the histogram, and its ids."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.ids: dict[str, object] = {}
        """Of the video that the message announces, of the last one where it announces several."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the body takes to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - started)

    @contextmanager
    def timed_failure(self, stage: str) -> Iterator[None]:
        """Add the time of a body that fails; one that succeeds tells its times itself."""
        started = time.monotonic()
        try:
            yield
        except BaseException:  # a cancelled one has used its time too
            self.add(stage, time.monotonic() - started)
            raise

    def add(self, stage: str, seconds: float) -> None:
        """Add a time that was measured elsewhere."""
        metrics.STAGE_SECONDS.labels(stage).observe(seconds)
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 4)

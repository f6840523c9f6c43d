"""When videos are uploaded, and how much work each is."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from poller.errors import SettingsError

DAY_SECONDS = 86400
HOUR_SECONDS = 3600
MOST_HOURS = 8784
"""A leap year."""
_QUIETEST_HOUR = 4
_BURST_SECONDS = 60
_FIRST_STAMP = 100_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Uploads in order: `times` (n,) in seconds from a midnight, `work` (n,) in seconds each."""

    times: Floats
    work: Floats
    weekday: int = 0
    """Of the midnight: 0 is Monday."""

    def __post_init__(self) -> None:
        if self.times.shape != self.work.shape or self.times.ndim != 1:
            raise ValueError(f"times {self.times.shape} and work {self.work.shape} must be (n,)")

    def busiest(self, seconds: float) -> int:
        """The most uploads within so many seconds."""
        if not len(self.times):
            return 0
        last = np.searchsorted(self.times, self.times + seconds)
        return int(np.max(last - np.arange(len(self.times))))


def constant(rng: np.random.Generator, per_hour: float, seconds: float) -> Floats:
    """At any time as likely as at any other: a Poisson process."""
    count = rng.poisson(per_hour * seconds / HOUR_SECONDS)
    return np.sort(rng.uniform(0, seconds, count))


def daily(rng: np.random.Generator, per_hour: float, seconds: float) -> Floats:
    """None at four in the morning, twice the mean at four in the afternoon, a cosine between."""
    grid = np.linspace(0, seconds, max(2, int(seconds // 60) + 1))
    phase = 2 * np.pi * (grid - _QUIETEST_HOUR * HOUR_SECONDS) / DAY_SECONDS
    rate = per_hour / HOUR_SECONDS * (1 - np.cos(phase))
    steps = (rate[1:] + rate[:-1]) / 2 * np.diff(grid)
    passed = np.concatenate([[0.0], np.cumsum(steps)])
    count = rng.poisson(passed[-1])
    times: Floats = np.interp(np.sort(rng.uniform(0, passed[-1], count)), passed, grid)
    return times


def burst(rng: np.random.Generator, per_hour: float, seconds: float, size: int) -> Floats:
    """As `constant`, and `size` more within one minute, halfway."""
    extra = seconds / 2 + rng.uniform(0, min(_BURST_SECONDS, seconds / 2), size)
    return np.sort(np.concatenate([constant(rng, per_hour, seconds), extra]))


def spread_work(rng: np.random.Generator, count: int, mean: float, spread: float) -> Floats:
    """Log-normal work of this mean; `spread` is the deviation as a part of it, 0: all alike."""
    if spread == 0:
        return np.full(count, mean)
    variance = np.log(1 + spread**2)
    drawn: Floats = rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)
    return drawn


def parse_recorded(text: str, rng: np.random.Generator, mean: float, spread: float) -> Arrivals:
    """Uploads from a CSV with the column `arrived_at` and, if it is known, `seconds` of work.

    Raises:
        SettingsError: a column or a value is not as it must be; the line is named.
    """
    lines = csv.DictReader(text.splitlines())
    if "arrived_at" not in (lines.fieldnames or ()):
        raise SettingsError(["the first line of the CSV must name a column `arrived_at`"])
    rows = list(lines)
    if not rows:
        raise SettingsError(["the CSV has no uploads"])
    times = np.array([_parse_time(row["arrived_at"], at) for at, row in enumerate(rows, 2)])
    given = [_parse_work(row.get("seconds"), at) for at, row in enumerate(rows, 2)]
    drawn = spread_work(rng, len(rows), mean, spread)
    work = np.array([own or other for own, other in zip(given, drawn, strict=True)])
    order = np.argsort(times, kind="stable")
    if np.ptp(times) > MOST_HOURS * HOUR_SECONDS:
        first, last = (rows[at]["arrived_at"] for at in (order[0], order[-1]))
        raise SettingsError(
            [f"the CSV goes from {first} to {last}; at most {MOST_HOURS} hours are simulated"]
        )
    midnight = times.min() // DAY_SECONDS * DAY_SECONDS
    # The epoch was a Thursday; seconds that are no Unix time count from a Monday.
    weekday = int(midnight // DAY_SECONDS + (3 if midnight > _FIRST_STAMP else 0)) % 7
    return Arrivals(times[order] - midnight, work[order], weekday)


def _parse_time(text: str | None, line: int) -> float:
    """Seconds, or a date and time as ISO 8601 and Postgres write them; without a zone, UTC."""
    text = (text or "").strip()
    try:
        return _checked(float(text))
    except ValueError:
        pass
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            [f"line {line} of the CSV: arrived_at is {text!r}, neither a time nor seconds"]
        ) from error
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _parse_work(text: str | None, line: int) -> float | None:
    if not text:
        return None
    try:
        return _checked(float(text))
    except ValueError as error:
        raise SettingsError(
            [f"line {line} of the CSV: seconds is {text!r}, which is no duration"]
        ) from error


def _checked(value: float) -> float:
    if not np.isfinite(value) or value < 0:
        raise ValueError(value)
    return value

"""What a run means: waits, hours and dollars, and the nearest limits."""

from dataclasses import asdict, dataclass
from math import ceil, isnan
from typing import Any

import numpy as np

from poller.simulation.arrivals import HOUR_SECONDS
from poller.simulation.capacity import Machines
from poller.simulation.policy import MOST_TASKS, Policy
from poller.simulation.run import Outcome

_MINUTE_SECONDS = 60
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for one instance hour."""

    on_demand: float = 1.006
    """g5.xlarge, Linux, us-east-1, as AWS lists it in 2026."""
    spot: float = 0.45
    """A guess: spot has no list price."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome in numbers. Durations in seconds, from the upload to its result."""

    uploads: int
    unfinished: int
    wait_p50: float
    wait_p95: float
    wait_p99: float
    wait_longest: float
    in_time: float
    """The part of the uploads that waited no longer than the owner accepts."""
    spot_hours: float
    on_demand_hours: float
    busy: float
    """The part of the paid hours in which there was work."""
    dollars: float
    dollars_per_upload: float
    instance_starts: int
    spot_losses: int
    peak_visible: int
    peak_in_flight: int
    peak_tasks: int


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that there is only so much of."""

    name: str
    most: float
    used: float
    advice: str
    is_simulated: bool = False
    """The run had no more of it, so that its waits show whether that was too little."""

    @property
    def share(self) -> float:
        """1: all of it is needed."""
        return self.used / self.most


def summarize(outcome: Outcome, policy: Policy, prices: Prices) -> Summary:
    """Waits of uploads without a result are left out; `unfinished` counts them."""
    done = outcome.waits[~np.isnan(outcome.waits)]
    points = [float(p) for p in np.percentile(done, _PERCENTILES)] if len(done) else [np.nan] * 3
    bill = outcome.bill
    spot, steady = bill.spot_seconds / HOUR_SECONDS, bill.on_demand_seconds / HOUR_SECONDS
    dollars = spot * prices.spot + steady * prices.on_demand
    uploads = len(outcome.waits)
    return Summary(
        uploads=uploads,
        unfinished=outcome.unfinished,
        wait_p50=points[0],
        wait_p95=points[1],
        wait_p99=points[2],
        wait_longest=float(done.max()) if len(done) else np.nan,
        in_time=float((done <= policy.terms.acceptable_wait_seconds).sum()) / max(1, uploads),
        spot_hours=spot,
        on_demand_hours=steady,
        busy=bill.busy_seconds / max(1.0, bill.spot_seconds + bill.on_demand_seconds),
        dollars=dollars,
        dollars_per_upload=dollars / max(1, uploads),
        instance_starts=bill.starts,
        spot_losses=bill.losses,
        peak_visible=max((sample.visible for sample in outcome.samples), default=0),
        peak_in_flight=max((sample.in_flight for sample in outcome.samples), default=0),
        peak_tasks=max((sample.tasks for sample in outcome.samples), default=0),
    )


def find_limits(
    outcome: Outcome, policy: Policy, machines: Machines, database_connections: int
) -> list[Limit]:
    """What the rush needs of everything that is limited, the nearest limit first.

    The rush is the busiest time as long as a video may wait: so many tasks must be there that what
    arrives in it is done in it, whatever the run was allowed to have. Sources of the numbers are in
    docs/scaling.md.
    """
    work, rush = outcome.arrivals.work, policy.terms.acceptable_wait_seconds
    mean = float(work.mean()) if len(work) else 0.0
    tasks = max(1, ceil(outcome.arrivals.busiest(rush) * mean / rush))
    per_second = outcome.arrivals.busiest(_MINUTE_SECONDS) / _MINUTE_SECONDS
    grown = machines.max_step * rush / policy.period_seconds
    connections = machines.slots + 3
    found = [
        Limit(
            "tasks, by `max_tasks`",
            policy.terms.max_tasks,
            tasks,
            "raise max_tasks" if tasks <= MOST_TASKS else "quicker videos, or let them wait longer",
            is_simulated=True,
        ),
        Limit(
            "instances started meanwhile",
            grown,
            tasks,
            "raise the least number of tasks by hand before the rush, or let videos wait longer",
            is_simulated=True,
        ),
        Limit(
            "connections of Postgres",
            database_connections,
            tasks * connections,
            "a larger database_class, or PgBouncer before it",
        ),
        Limit(
            "tasks that wait for instances",
            500,
            tasks,
            "raise the least number of tasks in steps of less",
        ),
        Limit("tasks of an ECS service", 5000, tasks, "a second service on the same queue"),
        Limit("tasks in Cloud Map", 1000, tasks, "let Prometheus ask ECS instead"),
        Limit("addresses of the subnets", 8182, 2 * tasks, "larger subnets, or more of them"),
        Limit("messages in flight", 120_000, tasks * machines.slots, "a second queue"),
        Limit("uploads to a prefix of S3, a second", 3500, per_second, "more prefixes"),
        Limit("reads of a prefix of S3, a second", 5500, 2 * per_second, "more prefixes"),
    ]
    return sorted(found, key=lambda limit: -limit.share)


def to_document(summary: Summary, limits: list[Limit], outcome: Outcome) -> dict[str, Any]:
    """All of it as JSON has it: null for what there is not."""
    numbers = {
        name: None if isinstance(value, float) and isnan(value) else value
        for name, value in asdict(summary).items()
    }
    return {
        "summary": numbers,
        "limits": [asdict(limit) | {"share": limit.share} for limit in limits],
        "samples": [asdict(sample) for sample in outcome.samples],
    }

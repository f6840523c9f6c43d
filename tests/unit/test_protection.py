"""Task protection as a function of the time: what is called when, and what an answer changes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.ecs import Agreed, Denied, Refused, parse_answer
from poller.errors import UnavailableError
from poller.imds import find_endpoint, parse_notice
from poller.rules.protection import (
    SPOT_MARGIN,
    Call,
    Protect,
    Release,
    Rest,
    Standing,
    Terms,
    agreed,
    asking,
    denied,
    is_protected,
    plan_call,
    plan_leaving,
    refused,
    unanswered,
)

TERMS = Terms(expiry_seconds=3600, idle_seconds=45)
HELD = Standing(held_until=3600)


def plan(
    standing: Standing, now: float, *, in_flight: int = 0, idle_since: float = 0
) -> Call | Rest:
    """The plan under these terms."""
    return plan_call(standing, TERMS, in_flight=in_flight, idle_since=idle_since, now=now)


@pytest.mark.parametrize(
    ("standing", "in_flight", "now", "planned"),
    [
        (Standing(), 0, 5, Rest(None)),
        (Standing(), 1, 5, Protect()),
        (Standing(retry_at=9), 1, 5, Rest(9)),
        (Standing(retry_at=5), 1, 5, Protect()),
        (HELD, 1, 1799, Rest(1800)),
        (HELD, 4, 1799, Rest(1800)),
        (HELD, 1, 1800, Protect()),
        (Standing(held_until=3600, retry_at=1815), 1, 1800, Rest(1815)),
        (HELD, 0, 44, Rest(45)),
        (HELD, 0, 45, Release()),
        (HELD, 0, 3600, Rest(None)),
        (Standing(may_hold_until=3600), 0, 44, Rest(45)),
        (Standing(may_hold_until=3600), 0, 45, Release()),
        (Standing(may_hold_until=3600), 1, 5, Protect()),
        (Standing(may_hold_until=3600, retry_at=60), 0, 45, Rest(60)),
        (Standing(is_denied=True), 1, 5, Rest(None)),
        (Standing(held_until=3600, is_denied=True), 0, 100, Rest(None)),
    ],
)
def test_what_is_called_when(
    standing: Standing, in_flight: int, now: float, planned: Call | Rest
) -> None:
    """Work asks at once and again at half the expiry; idleness releases after a while."""
    assert plan(standing, now, in_flight=in_flight) == planned


def test_a_call_that_was_cut_off_is_made_up_for() -> None:
    """It may have been carried out: work asks again, idleness releases."""
    standing = asking(Standing(), Protect(), TERMS, now=10)

    assert not is_protected(standing, 11)
    assert plan(standing, 11, in_flight=1) == Protect()
    assert plan(standing, 100, idle_since=11) == Release()


def test_a_release_that_was_cut_off_protects_nothing() -> None:
    """New work asks again, and without work it is said again."""
    standing = asking(HELD, Release(), TERMS, now=50)

    assert not is_protected(standing, 51)
    assert plan(standing, 51, in_flight=1) == Protect()
    assert plan(standing, 51) == Release()


def test_a_refused_renewal_leaves_what_is_held() -> None:
    """Until that ends."""
    standing = refused(HELD, now=1800)

    assert is_protected(standing, 3599)
    assert not is_protected(standing, 3600)
    assert plan(standing, 1801, in_flight=1) == Rest(1815)


def test_failures_are_spaced_out() -> None:
    """A quarter of a minute, then half, then a minute each; a yes forgets them."""
    standing = Standing()
    pauses = []
    for _ in range(5):
        standing = unanswered(standing, now=0)
        pauses.append(standing.retry_at)

    assert pauses == [15, 30, 60, 60, 60]
    assert agreed(Protect(), TERMS, asked_at=7) == Standing(held_until=3607)
    assert agreed(Release(), TERMS, asked_at=7) == Standing()


def test_a_denial_is_final() -> None:
    """What was held before still ends as it would have."""
    standing = denied(HELD)

    assert standing.is_denied
    assert is_protected(standing, 3599)
    assert plan(standing, 1e9, in_flight=1) == Rest(None)


@dataclass
class World:
    """A process and an agent that share a clock."""

    now: float = 0.0
    in_flight: int = 0
    idle_since: float = 0.0
    standing: Standing = field(default_factory=Standing)
    calls: list[tuple[float, Call]] = field(default_factory=list)

    def change(self, after: float, in_flight: int) -> None:
        """Let time pass, during which every call that is due is made, then work come or go."""
        until = self.now + after
        self.settle()
        while isinstance(step := self.plan(), Rest) and step.until and step.until <= until:
            self.now = step.until
            self.settle()
        self.now = until
        self.in_flight, self.idle_since = in_flight, until
        self.settle()

    def plan(self) -> Call | Rest:
        """What is due now."""
        return plan(self.standing, self.now, in_flight=self.in_flight, idle_since=self.idle_since)

    def settle(self) -> None:
        """Make the call that is due."""
        if not isinstance(step := self.plan(), Rest):
            self.calls.append((self.now, step))
            self.standing = agreed(step, TERMS, self.now)


CHANGES = st.lists(st.tuples(st.floats(0.1, 9000), st.integers(0, 4)), max_size=30)


@given(CHANGES)
def test_work_is_protected_at_all_times_by_few_calls(changes: list[tuple[float, int]]) -> None:
    """And nothing is held 45 s after the last of it."""
    world = World()
    for after, in_flight in changes:
        world.change(after, in_flight)
        if in_flight:
            assert world.standing.held_until is not None
            assert world.standing.held_until - world.now > 1799
    world.change(1, 0)
    world.change(46, 0)

    assert not is_protected(world.standing, world.now)
    for (before, first), (now, second) in zip(world.calls, world.calls[1:], strict=False):
        assert isinstance(first, Protect) or isinstance(second, Protect)
        if isinstance(second, Release):
            assert now - before >= 45
        elif isinstance(first, Protect):
            assert now - before >= 1799


def test_a_drain_ends_before_the_instance_does() -> None:
    """With a margin; a notice that comes too late leaves no time, not less than none."""
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert plan_leaving(now + timedelta(seconds=120), now) == timedelta(seconds=120) - SPOT_MARGIN
    assert plan_leaving(now + timedelta(seconds=3), now) == timedelta(0)
    assert plan_leaving(now - timedelta(days=1), now) == timedelta(0)


@given(st.integers(100, 599), st.binary() | st.text().map(str.encode), st.booleans())
def test_any_answer_of_the_agent_is_an_answer(status: int, body: bytes, wanted: bool) -> None:
    """Bytes never raise more than `UnavailableError`."""
    try:
        answer = parse_answer(status, body, {"ProtectionEnabled": wanted})
    except UnavailableError as error:
        answer = Refused(str(error))

    assert isinstance(answer, Agreed | Denied | Refused)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"null", b"[]", b'{"failure": "x"}', b"{}"])
def test_json_of_another_shape_is_no_answer(body: bytes) -> None:
    """However deep it is."""
    with pytest.raises(UnavailableError):
        parse_answer(200, body, {"ProtectionEnabled": True})


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"action": "stop", "time": "soon"}'])
def test_nothing_is_concluded_from_garbage(body: bytes) -> None:
    """A proxy that answers everything must not drain the service."""
    with pytest.raises(UnavailableError):
        parse_notice(body)


def test_where_the_metadata_is() -> None:
    """Said by the variables of the AWS SDKs."""
    elsewhere = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]/"}

    assert find_endpoint({}) == "http://169.254.169.254"
    assert find_endpoint(elsewhere) == "http://[fd00:ec2::254]/"
    assert find_endpoint({**elsewhere, "AWS_EC2_METADATA_DISABLED": "TRUE"}) is None

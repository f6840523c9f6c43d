"""Task protection and the spot notice, against servers that keep the contracts of both."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.ecs_agent import (
    BLOCKED,
    BROKEN,
    FORBIDDEN,
    GARBAGE,
    NO_ROLE,
    NOT_VALID,
    THROTTLED,
    TIMED_OUT,
    EcsAgent,
    Reply,
    ecs_agent,
    make_error,
)
from tests.instance_metadata import InstanceMetadata, instance_metadata
from tests.integration.test_heartbeat import until

from poller import metrics
from poller.ecs import Agent, Agreed, Denied, Refused, open_agent
from poller.errors import UnavailableError
from poller.imds import Notice, watch_spot
from poller.protection import Protection
from poller.rules.protection import Terms

LONG = Terms(expiry_seconds=3600, idle_seconds=3600)


@pytest.fixture
async def server() -> AsyncIterator[EcsAgent]:
    """An agent that says yes."""
    async with ecs_agent() as server:
        yield server


@pytest.fixture
async def agent(server: EcsAgent) -> AsyncIterator[Agent]:
    """The service's client of that agent."""
    async with open_agent(server.uri) as agent:
        yield agent


@pytest.fixture
async def metadata() -> AsyncIterator[InstanceMetadata]:
    """An instance's metadata, without a notice."""
    async with instance_metadata() as metadata:
        yield metadata


def failures() -> float:
    """How many calls failed so far in this process."""
    return float(metrics.ERRORS.labels("ecs")._value.get())


def fail_on_denial() -> None:
    """What `kept` calls where nothing is denied."""
    raise AssertionError("denied")


async def test_the_agent_understands_what_it_is_asked(server: EcsAgent, agent: Agent) -> None:
    """And says so: an unknown field or a time outside its limits would be a bad request."""
    answers = [await agent.protect(60), await agent.release(), await agent.protect(0)]

    assert answers == [Agreed(), Agreed(), Refused("InvalidParameterException: Invalid request")]
    assert server.calls == [
        {"ProtectionEnabled": True, "ExpiresInMinutes": 60},
        {"ProtectionEnabled": False},
    ]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (BLOCKED, Denied("DEPLOYMENT_BLOCKED")),
        (make_error(400, "DEPLOYMENT_BLOCKED", "no"), Denied("DEPLOYMENT_BLOCKED: no")),
        (NOT_VALID, Refused("TASK_NOT_VALID")),
        (THROTTLED, Refused("ThrottlingException: Rate exceeded")),
        (FORBIDDEN, Refused("AccessDeniedException: User is not authorized to perform")),
        (NO_ROLE, Refused("AccessDeniedException: no task IAM role credentials available")),
        (
            Reply(200, '{"protection": {"ProtectionEnabled": false}}'),
            Refused("ProtectionEnabled is False"),
        ),
        (TIMED_OUT, "RequestCanceled"),
        (BROKEN, "ServerException"),
        (GARBAGE, "no JSON object"),
        (Reply(200, "{}"), "neither protection, failure nor error"),
        (Reply(302, '{"protection": {"ProtectionEnabled": true}}'), "HTTP 302"),
    ],
)
async def test_what_the_agent_says(
    server: EcsAgent, agent: Agent, reply: Reply, answer: Denied | Refused | str
) -> None:
    """A denial is told from a refusal, and both from an answer that says nothing."""
    server.reply = reply
    try:
        said: Agreed | Denied | Refused | str = await agent.protect(60)
    except UnavailableError as error:
        said = error.detail

    if isinstance(answer, str):
        assert isinstance(said, str)
        assert answer in said
    else:
        assert said == answer


async def test_an_agent_that_is_silent_or_away(server: EcsAgent, agent: Agent) -> None:
    """Silence costs two seconds, a closed port nothing; an address that is none says so."""
    server.is_silent = True
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(UnavailableError, match="does not answer"):
        await agent.protect(60)
    taken = loop.time() - started

    for uri in ("http://127.0.0.1:1/api/x", "not a url", "http://[::", "http://a..b"):
        async with open_agent(uri) as away:
            with pytest.raises(UnavailableError):
                await away.release()
    assert 1.9 < taken < 3


async def test_many_messages_at_once_make_one_call(server: EcsAgent, agent: Agent) -> None:
    """All of them wait for its answer; later ones find the task protected."""
    answered: list[bool] = []

    async def look() -> None:
        answered.append(False)
        await asyncio.sleep(0.2)
        answered[0] = True

    server.on_call = look
    protection = Protection(agent, LONG)
    protection.note_work(4)
    found = await asyncio.gather(*(protection.allows_work() for _ in range(4)))
    seen = list(answered)
    again = await protection.allows_work()

    assert [*found, again] == [True] * 5
    assert seen == [True]
    assert server.calls == [{"ProtectionEnabled": True, "ExpiresInMinutes": 60}]
    assert metrics.TASK_PROTECTION._value.get() == 1


async def test_without_an_agent_nothing_is_called() -> None:
    """Work is allowed, and nobody is asked."""
    protection = Protection(None, LONG)
    async with protection.kept(fail_on_denial):
        protection.note_work(1)
        allowed = await protection.allows_work()

    assert allowed


async def test_renewed_at_half_of_its_expiry(server: EcsAgent, agent: Agent) -> None:
    """As long as there is work, and not earlier."""
    protection = Protection(agent, Terms(expiry_seconds=2, idle_seconds=60))
    async with protection.kept(fail_on_denial):
        protection.note_work(1)
        calls = await server.called(3, seconds=10)

    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert all(call == {"ProtectionEnabled": True, "ExpiresInMinutes": 1} for call in calls)
    assert all(0.95 < gap < 2 for gap in gaps)


async def test_released_when_idle_for_long_enough(server: EcsAgent, agent: Agent) -> None:
    """A message that comes within the time is worked on under the same protection."""
    protection = Protection(agent, Terms(expiry_seconds=3600, idle_seconds=0.5))
    loop = asyncio.get_running_loop()
    async with protection.kept(fail_on_denial):
        for _ in range(3):
            protection.note_work(1)
            await protection.allows_work()
            protection.note_work(0)
            ended = loop.time()
            await asyncio.sleep(0.2)
        held = metrics.TASK_PROTECTION._value.get()
        calls = await server.called(2, seconds=10)
        await until(lambda: metrics.TASK_PROTECTION._value.get() == 0)

    assert held == 1
    assert [call["ProtectionEnabled"] for call in calls] == [True, False]
    assert 0.49 < server.times[1] - ended < 2


async def test_a_denial_allows_no_work_and_is_told_once(server: EcsAgent, agent: Agent) -> None:
    """Nobody asks again: the task is to go."""
    server.reply = BLOCKED
    told = asyncio.Event()
    protection = Protection(agent, LONG)
    async with protection.kept(told.set):
        protection.note_work(2)
        found = [protection.allows_work() for _ in range(2)]
        answers = await asyncio.gather(*found)
        await asyncio.wait_for(told.wait(), 5)
        protection.note_work(1)
        answers.append(await protection.allows_work())

    assert answers == [False] * 3
    assert len(server.calls) == 1


async def test_a_denied_renewal_is_told(server: EcsAgent, agent: Agent) -> None:
    """So that the work is given back while its protection still holds."""
    told = asyncio.Event()
    protection = Protection(agent, Terms(expiry_seconds=1, idle_seconds=60))
    async with protection.kept(told.set):
        protection.note_work(1)
        allowed = await protection.allows_work()
        server.reply = BLOCKED
        await asyncio.wait_for(told.wait(), 5)
        held = metrics.TASK_PROTECTION._value.get()

    assert allowed
    assert held == 1


@pytest.mark.parametrize("reply", [THROTTLED, NOT_VALID, BROKEN, GARBAGE])
async def test_a_failing_agent_keeps_nobody_from_work(
    server: EcsAgent, agent: Agent, reply: Reply
) -> None:
    """It is counted, and not asked for every message."""
    server.reply = reply
    before = failures()
    protection = Protection(agent, LONG)
    protection.note_work(1)
    found = [await protection.allows_work() for _ in range(10)]

    assert found == [True] * 10
    assert len(server.calls) == 1
    assert failures() - before == 1


async def test_a_silent_agent_delays_the_first_message_only(server: EcsAgent, agent: Agent) -> None:
    """By two seconds. When the work is over, what may have been granted is given back."""
    server.is_silent = True
    protection = Protection(agent, Terms(expiry_seconds=3600, idle_seconds=0))
    loop = asyncio.get_running_loop()
    started = loop.time()
    protection.note_work(1)
    for _ in range(5):
        assert await protection.allows_work()
    taken = loop.time() - started

    standing = protection._standing
    assert taken < 3
    assert standing.held_until is None
    assert standing.may_hold_until is not None


async def test_a_job_that_is_cancelled_while_it_asks(server: EcsAgent, agent: Agent) -> None:
    """What it asked for may have been granted, and is released."""
    server.is_silent = True
    protection = Protection(agent, Terms(expiry_seconds=3600, idle_seconds=0))
    protection.note_work(1)
    job = asyncio.create_task(protection.allows_work())
    await server.called(1)
    job.cancel()
    await asyncio.wait([job])
    server.is_silent = False

    async with protection.kept(fail_on_denial):
        protection.note_work(0)
        calls = await server.called(2, seconds=5)

    assert [call["ProtectionEnabled"] for call in calls] == [True, False]


async def notice_of(metadata: InstanceMetadata) -> Notice:
    """Watch until there is a notice."""
    found: asyncio.Future[Notice] = asyncio.get_running_loop().create_future()
    async with watch_spot(metadata.endpoint, found.set_result, poll_seconds=0.05):
        return await asyncio.wait_for(found, 10)


async def test_a_spot_notice_is_told_once(metadata: InstanceMetadata) -> None:
    """When it appears, with its time."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=120)
    watching = asyncio.create_task(notice_of(metadata))
    await metadata.was_asked(3)
    metadata.take_away(at, "stop")

    assert await watching == Notice("stop", at)
    assert metadata.tokens == 1


async def test_an_outage_of_the_metadata_is_waited_out(metadata: InstanceMetadata) -> None:
    """Also one that is longer than the patience at the start, and a token that expires."""
    watching = asyncio.create_task(notice_of(metadata))
    await metadata.was_asked(1)
    metadata.notice = "garbage"
    await metadata.was_asked(8)
    metadata.expire_token()
    metadata.take_away(datetime.now(UTC))

    assert (await watching).action == "terminate"


async def test_metadata_out_of_reach_are_given_up(metadata: InstanceMetadata) -> None:
    """After three tries; where they are not to be asked, there is none."""
    metadata.gives_tokens = False

    def never(notice: Notice) -> None:
        raise AssertionError(notice)

    async with watch_spot(metadata.endpoint, never, poll_seconds=0):
        (task,) = [t for t in asyncio.all_tasks() if t.get_name() == "watch-spot"]
        await asyncio.wait_for(asyncio.shield(task), 10)
    async with watch_spot(None, never):
        tasks = {task.get_name() for task in asyncio.all_tasks()}

    assert metadata.asked == 0
    assert "watch-spot" not in tasks

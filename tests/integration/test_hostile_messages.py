"""Three hundred messages that mean no good: the loop goes on, and none disappears unexplained."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import pytest
from tests.factories import (
    make_application_body,
    make_eventbridge_body,
    make_s3_body,
    make_s3_record,
    make_sns_body,
)
from tests.integration.conftest import Systems
from tests.integration.test_watch import Parts

from poller.consumer import Intake
from poller.rules.message import Ignore, parse_message
from poller.settle import Settlement
from poller.sqs import Queue

COUNT = 320
BUCKET, KEY = "no-such-bucket-anywhere", "videos/84/holiday.mp4"
VALID = (
    make_application_body(BUCKET, KEY, 84),
    make_s3_body(make_s3_record(BUCKET, KEY), make_s3_record(BUCKET, "b c+d.mp4")),
    make_eventbridge_body(BUCKET, KEY),
    json.dumps({"bucket": BUCKET, "key": KEY}),
    json.dumps({"s3_bucket": BUCKET, "s3_key": KEY}),
    make_sns_body(make_s3_body(make_s3_record(BUCKET, KEY)), {"video_id": "84"}),
    json.dumps({"Event": "s3:TestEvent", "Bucket": BUCKET}),
    make_s3_body(make_s3_record(BUCKET, KEY, "ObjectRemoved:Delete")),
)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**400, 1.5e308, "", " ", [], {}, [[]], {"a": {}}, "\N{BELL SYMBOL}"),
    *("x" * 3000, "a..b", "a_b", "-a", "A", "1.2.3.4", "xn--a", "b/../c", "/", "//", "%00", "%zz"),
    *("arn:aws:s3:us-east-1:1:accesspoint/a", "arn:aws:s3:::b", "..", "?versionId=1", "a\tb"),
)
CORPUS = (
    *("null", "true", "0", '""', "[]", "{}", "[{}]", "NaN", "-Infinity", "[" * 5000, "{" * 5000),
    *('{"a":' * 2000, '{"bucket":"b"', "\ufeff{}", "\N{PILE OF POO}", "AAAA" * 500, "<xml/>", "'"),
    *('{"Records": null}', '{"Records": [null]}', '{"Records": []}', '{"detail-type": []}'),
    *('{"Type":"Notification","Message":null}', '{"Type":"Notification"}', '{"eventType": 1}'),
    json.dumps({"Records": [make_s3_record(BUCKET, KEY)] * 1200}),
)


def paths(document: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something that can be replaced."""
    if path:
        yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from paths(value, (*path, name))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from paths(value, (*path, number))


def distort(body: str, random: Random) -> str:
    """One thing in it is other than it should be."""
    match random.randrange(5):
        case 0:
            return body[: random.randrange(1, len(body))]
        case 1:
            at = random.randrange(len(body))
            return body[:at] + random.choice('{}[]",:\\ 0aé') + body[at + 1 :]
        case 2:
            for _ in range(random.randrange(1, 7)):
                body = make_sns_body(body)
            return body
        case _:
            document = copy.deepcopy(json.loads(body))
            *way, last = random.choice(list(paths(document)))
            place = document
            for step in way:
                place = place[step]
            place[last] = random.choice(ODD)
            return json.dumps(document)


def make_bodies() -> list[str]:
    """The corpus, and distortions of what is valid; the same each time."""
    random, bodies = Random(3), list(dict.fromkeys(CORPUS))
    while len(bodies) < COUNT:
        body = distort(random.choice(VALID), random)
        if body not in bodies:
            bodies.append(body)
    return bodies


@pytest.mark.timeout(600)
async def test_none_stops_the_loop(systems: Systems, dead_letters: Queue) -> None:
    """Each is deleted because it asks for nothing, or is in the DLQ with its reason."""
    parts, bodies = Parts(systems), make_bodies()
    consumer = parts.consumer
    consumer._settlement = Settlement(systems.inbox, dead_letters)
    consumer._intake = Intake(10, 1, 120, ())
    await asyncio.gather(*(systems.inbox.send(body) for body in bodies))

    loop = asyncio.create_task(consumer.run())
    async with asyncio.timeout(500):
        while sum((await systems.inbox.depth()).values()):  # noqa: ASYNC110 - SQS has no event
            await asyncio.sleep(0.2)
    consumer.stop()
    await loop
    letters = [letter async for letter in taken(dead_letters)]

    expected = sorted(body for body in bodies if not isinstance(parse_message(body, {}), Ignore))
    assert len(bodies) >= 300
    assert sorted(body for body, _ in letters) == expected
    assert all(reason for _, reason in letters)
    assert len({reason for _, reason in letters}) >= 6


async def taken(queue: Queue) -> AsyncIterator[tuple[str, str | None]]:
    """Body and reason of all letters."""
    while found := await queue.receive(limit=10, wait_seconds=1, visibility_seconds=600):
        for letter in found:
            yield letter.body, letter.texts.get("reason")

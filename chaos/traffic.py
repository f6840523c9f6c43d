"""The uploads: announced again and again in all shapes, some replaced, with junk in between."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.factories import (
    make_application_body,
    make_eventbridge_body,
    make_s3_body,
    make_s3_record,
    make_sns_body,
)

from chaos.clips import Content, make_junk
from poller.local.resources import Clients

_Shape = Callable[[str, str, int], str]
_SHAPES: tuple[_Shape, ...] = (
    make_application_body,
    lambda bucket, key, number: make_sns_body(make_application_body(bucket, key, number)),
    lambda bucket, key, _: make_eventbridge_body(bucket, key),
    lambda bucket, key, _: json.dumps({"bucket": bucket, "key": key}),
    lambda bucket, key, _: json.dumps({"s3_bucket": bucket, "s3_key": key}),
    lambda bucket, key, _: make_s3_body(make_s3_record(bucket, key)),
)
"""Besides S3's own notification. The first states the application's id, and is always sent."""
_GARBAGE: tuple[tuple[str, str], ...] = (
    ("no json %s", "not_json"),
    ('{"hello": "%s"}', "unknown_shape"),
    ('{"bucket": "%s"}', "missing_key"),
    ('{"bucket": "", "key": "%s"}', "missing_bucket"),
)
_REPLACED, _BAD = 0.25, 0.2


@dataclass(slots=True)
class Upload:
    """One object: what it held, in order, and how often it was announced."""

    number: int
    key: str
    contents: list[Content]
    put_at: float
    announcements: int = 0

    @property
    def newest(self) -> Content:
        """What it holds now."""
        return self.contents[-1]


@dataclass(slots=True)
class Traffic:
    """Sends, and remembers what must come of it."""

    clients: Clients
    bucket: str
    queue_url: str
    random: Random
    contents: list[Content]
    uploads: list[Upload] = field(default_factory=list)
    poison: dict[str, str] = field(default_factory=dict)
    """Bodies, or keys of objects that are no videos, with the reason to expect."""
    poison_sent: int = 0
    _deadline: float = 0.0

    async def run(self, seconds: float, open_uploads: Callable[[], int], limit: int) -> None:
        """Upload for so long, whenever fewer than `limit` uploads are open."""
        self._deadline = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < self._deadline:
                if open_uploads() < limit:
                    group.create_task(self._upload(), name=f"upload-{len(self.uploads)}")
                    if self.random.random() < _BAD:
                        group.create_task(self._send_bad(), name="bad")
                await asyncio.sleep(self.random.uniform(0.1, 1.0))

    async def put(self, key: str, content: Content) -> None:
        """Upload; the bucket announces it."""
        await self.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=content.data)

    async def _upload(self) -> None:
        number = len(self.uploads) + 1
        # Spaces, plus signs and letters that S3 encodes; no id can be read from it.
        key = f"videos/2025/12/29/{number:04} é+&.x.mp4"
        upload = Upload(number, key, [self.random.choice(self.contents)], time.monotonic(), 1)
        self.uploads.append(upload)
        await self.put(key, upload.newest)
        shapes = [_SHAPES[0], *self.random.choices(_SHAPES, k=self.random.randint(0, 3))]
        for shape in shapes:
            await self._send(shape(self.bucket, key, number))
            upload.announcements += 1
            await asyncio.sleep(self.random.uniform(0, 1))
        if self.random.random() < _REPLACED:
            await self._replace(upload)

    async def _replace(self, upload: Upload) -> None:
        # S3 counts whole seconds: of two uploads in one of them, nobody could say which is newer.
        await asyncio.sleep(max(0.0, upload.put_at + 2 - time.monotonic()))
        await asyncio.sleep(self.random.uniform(0, 6))
        upload.contents.append(self.random.choice(self.contents))
        upload.announcements += 1
        await self.put(upload.key, upload.newest)

    async def _send_bad(self) -> None:
        self.poison_sent += 1
        name = secrets.token_hex(6)
        kind = self.random.randrange(len(_GARBAGE) + 2)
        if kind < len(_GARBAGE):
            pattern, reason = _GARBAGE[kind]
            self.poison[pattern % name] = reason
            await self._send(pattern % name)
            return
        key = f"bad/{name}.x.mp4"
        if kind == len(_GARBAGE):
            self.poison[key] = "not_a_video"
            await self.put(key, make_junk())
            await self._send(make_application_body(self.bucket, key))
        else:
            self.poison[key] = "object_missing"
            await self._send(make_application_body(self.bucket, key))

    async def _send(self, body: str) -> None:
        await self.clients.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

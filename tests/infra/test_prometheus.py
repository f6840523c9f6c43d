"""A real Prometheus watches the running service, with the rules and the dashboard as shipped."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.clips import make_clip
from tests.factories import make_application_body
from tests.infra.monitoring import PROMETHEUS, drawn, load, ruled
from tests.running import running

from poller.local.resources import Clients, QueuePair

_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
BINARY = shutil.which("prometheus", path=_PATH)
EMPTY_AT_REST = ("Shortest lease", "Drains and protection A")

pytestmark = [
    pytest.mark.skipif(
        BINARY is None, reason="prometheus is not installed: deploy/prometheus/install gets it"
    ),
    pytest.mark.timeout(1800),
]


class Prometheus:
    """A running Prometheus, asked through its API."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._session = session

    async def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """The `data` of an answer."""
        url = f"http://{self._address}/api/v1/{path}"
        async with self._session.get(url, params=parameters) as response:
            answer: dict[str, Any] = await response.json()
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data

    async def ask(self, text: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of an expression."""
        result = (await self.get("query", query=text))["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    async def unhealthy(self) -> list[str]:
        """The rules that were not evaluated, or not without an error."""
        groups = (await self.get("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == len(ruled())
        return [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if _is_sick(rule)]

    async def empty(self) -> list[str]:
        """The expressions of the dashboard that draw nothing."""
        return [
            one.where
            for one in drawn()
            if not one.where.split(" ", 1)[1].startswith(EMPTY_AT_REST)
            and not await self.ask(one.text)
        ]

    async def firing(self) -> set[str]:
        """The alerts that fire."""
        return {labels["alertname"] for labels, _ in await self.ask('ALERTS{alertstate="firing"}')}


def _is_sick(rule: dict[str, Any]) -> bool:
    return bool(rule["health"] != "ok" or rule.get("lastError"))


@asynccontextmanager
async def watching(port: int, directory: Path) -> AsyncIterator[Prometheus]:
    """Start Prometheus with the local configuration, for a service on this port."""
    shutil.copytree(PROMETHEUS / "rules", directory / "rules")
    config = load(PROMETHEUS / "prometheus-local.yml")
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [c for c in config["scrape_configs"] if c["job_name"] == "poller"]
    (target,) = config["scrape_configs"][0]["static_configs"]
    target["targets"] = [f"127.0.0.1:{port}"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    assert BINARY is not None
    process = await asyncio.create_subprocess_exec(
        BINARY,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    reader = asyncio.create_task(_read(process.stderr, address), name="prometheus-log")
    try:
        listening = await asyncio.wait_for(address, 300)
        async with aiohttp.ClientSession() as session:
            yield Prometheus(listening, session)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


async def _read(log: asyncio.StreamReader, address: "asyncio.Future[str]") -> None:
    said = b""
    async for line in log:
        said += line
        found = re.search(rb'msg="Listening on" address=(\S+)', said)
        if found and b"ready to receive web requests" in line and not address.done():
            address.set_result(found[1].decode())
    if not address.done():
        address.set_exception(RuntimeError(said.decode()))


async def settled(look: Callable[[], Awaitable[object]], wanted: object, seconds: float) -> None:
    """Look again until it is as wanted; what is scraped and evaluated has no event to wait for."""
    seen = None
    try:
        async with asyncio.timeout(seconds):
            while (seen := await look()) != wanted:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise AssertionError(f"after {seconds} s: {seen}, and not {wanted}") from None


async def test_it_watches_the_running_service(
    clients: Clients,
    queues: QueuePair,
    announced_bucket: str,
    settings_env: dict[str, str],
    tmp_path: Path,
) -> None:
    """The target is up, each rule is evaluated, each panel draws, and a dead letter is told."""
    clip = make_clip(tmp_path / "clip.mp4")

    async with running(settings_env, max_concurrent_videos="3") as service:
        (started,) = await service.logged("service.started")
        async with watching(started["http_port"], tmp_path) as prometheus:

            async def up() -> list[float]:
                return [value for _, value in await prometheus.ask("environment:up:sum")]

            await settled(up, [1.0], 300)
            key = "videos/84/clip.mp4"
            await clients.s3.put_object(Bucket=announced_bucket, Key=key, Body=clip.read_bytes())
            for body in (make_application_body(announced_bucket, key, 84), "no json"):
                await clients.sqs.send_message(QueueUrl=queues.url, MessageBody=body)
            await service.logged("video.finished", outcomes=("stored",), seconds=600)

            await settled(prometheus.unhealthy, [], 300)
            await settled(prometheus.empty, [], 300)
            await settled(prometheus.firing, {"PollerDeadLetters"}, 300)
            finished = await prometheus.ask("environment:poller_videos_finished:increase1h")
            slots = await prometheus.ask("environment:poller_slots:sum")
            listed = await prometheus.get("alerts")

            assert slots == [
                ({"__name__": "environment:poller_slots:sum", "environment": "local"}, 3)
            ]
            assert {labels["state"] for labels, value in finished if value > 0} == {"done"}
            said = {
                (one["annotations"]["summary"], one["annotations"]["runbook_url"])
                for one in listed["alerts"]
            }
            assert ("Dead letters: 1", "docs/runbook.md#the-dlq-is-not-empty") in said

            await service.stop()
            await settled(up, [0.0], 300)

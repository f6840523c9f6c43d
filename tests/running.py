"""The service as a process: started like a user starts it, watched through what it says."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from inference.wire import DECODER_NAME


class Service:
    """A running `poller run`: its log as parsed lines, its endpoints, its processes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(), name="service-log")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._grown:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.lines.append({"event": line.decode(errors="replace").rstrip()})
                self._grown.notify_all()

    async def logged(
        self, event: str, *, times: int = 1, seconds: float = 60, **fields: object
    ) -> list[dict[str, Any]]:
        """Wait until this event was logged so many times with these fields."""

        def found() -> list[dict[str, Any]]:
            wanted = {"event": event, **fields}
            return [line for line in self.lines if wanted.items() <= _hashable(line).items()]

        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(lambda: len(found()) >= times)
        except TimeoutError:
            shown = "\n".join(json.dumps(line)[:600] for line in self.lines[-30:])
            raise AssertionError(
                f"{event} {fields} not logged {times} times in {seconds} s:\n{shown}"
            ) from None
        return found()

    async def get(self, path: str, *, after: str = "service.started") -> tuple[int, str]:
        """Status and text of one of its endpoints, once this event has named the port."""
        (started,) = await self.logged(after)
        url = f"http://127.0.0.1:{started['http_port']}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one sample; 0 where there is none."""
        _, text = await self.get("/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def decoders(self) -> list[psutil.Process]:
        """Its decoders, which the fork server has started."""
        everybody = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in everybody if _is_decoder(child)]

    def freeze_decoders(self) -> None:
        """Let nothing be finished from now on, however fast the machine is."""
        for decoder in self.decoders():
            decoder.suspend()

    def children(self, module: str) -> list[psutil.Process]:
        """Its child processes that run a module, such as `inference.device_main`."""
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if any(module in part for part in child.cmdline())
        ]

    async def started_decoding(self, seconds: float = 60) -> None:
        """Wait until a decoder process lives; a process list has no event to wait for."""
        async with asyncio.timeout(seconds):
            while not self.decoders():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.02)

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """Signal it and wait for its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            await self._reader
        return status


@asynccontextmanager
async def running(environment: Mapping[str, str], **settings: str) -> AsyncIterator[Service]:
    """Start the service with these `POLLER_` settings, in lower case; kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "poller", "run"),
        env={**environment, **{f"POLLER_{name.upper()}": v for name, v in settings.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**24,
    )
    service = Service(process)
    try:
        yield service
    finally:
        await service.stop(signal.SIGKILL)


def _hashable(line: dict[str, Any]) -> dict[str, object]:
    return {
        name: tuple(v) if isinstance(v, list) else str(v) if isinstance(v, dict) else v
        for name, v in line.items()
    }


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return process.name() == DECODER_NAME
    except psutil.Error:
        return False

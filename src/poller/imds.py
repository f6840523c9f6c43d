"""EC2's instance metadata: the notice that this spot instance will be taken away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import structlog

from poller.errors import UnavailableError

log = structlog.get_logger("poller.imds")

_ENDPOINT = "http://169.254.169.254"
_PATIENCE_SECONDS = 1.0
POLL_SECONDS = 5.0
"""As often as EC2's documentation recommends: the notice is given two minutes ahead."""
_TRIES = 3
_TOKEN_SECONDS = 21600


@dataclass(frozen=True, slots=True)
class Notice:
    """This instance will be taken away."""

    action: str
    """`terminate`, `stop` or `hibernate`."""
    at: datetime


class Metadata:
    """The metadata service, second version (with a session token)."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._token: str | None = None

    async def notice(self) -> Notice | None:
        """Ask for the spot interruption notice; None where there is none.

        Raises:
            UnavailableError: the service cannot be reached or understood.
        """
        try:
            if self._token is None:
                self._token = await self._fetch_token()
            async with self._session.get(
                f"{self._endpoint}/latest/meta-data/spot/instance-action",
                headers={"X-aws-ec2-metadata-token": self._token},
                allow_redirects=False,
            ) as response:
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError("imds", str(error) or "no answer") from error
        if status == 404:
            return None
        if status != 200:
            self._token = None  # 401: it has expired
            raise UnavailableError("imds", f"HTTP {status}")
        return parse_notice(body)

    async def _fetch_token(self) -> str:
        async with self._session.put(
            f"{self._endpoint}/latest/api/token",
            headers={"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)},
            allow_redirects=False,
        ) as response:
            token = await response.text()
            if response.status != 200 or not token:
                raise UnavailableError("imds", f"HTTP {response.status} instead of a token")
            return token


def parse_notice(body: bytes) -> Notice:
    """Read `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`.

    Raises:
        UnavailableError: it is something else; nothing is concluded from it.
    """
    try:
        said = json.loads(body)
        at = datetime.fromisoformat(said["time"])
        return Notice(str(said["action"]), at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError("imds", f"no notice: {body[:100]!r}") from error


def find_endpoint(environment: Mapping[str, str]) -> str | None:
    """Where the metadata is, by the variables that every AWS SDK knows; None: not to be asked."""
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    return environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _ENDPOINT


@asynccontextmanager
async def watch_spot(
    endpoint: str | None, on_notice: Callable[[Notice], None], poll_seconds: float = POLL_SECONDS
) -> AsyncIterator[None]:
    """Call `on_notice` once, when a notice appears while the body runs.

    A service that does not answer at the start is given up quietly: many containers cannot reach
    it, and it exists on EC2 only. One that has answered is asked until the end.
    """
    if endpoint is None:
        yield
        return
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        watch = _watch(Metadata(session, endpoint), on_notice, poll_seconds)
        task = asyncio.create_task(watch, name="watch-spot")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _watch(
    metadata: Metadata, on_notice: Callable[[Notice], None], poll_seconds: float
) -> None:
    tries, has_answered = 0, False
    while has_answered or tries < _TRIES:
        try:
            notice = await metadata.notice()
        except UnavailableError as error:
            tries += 1
            log.debug("spot.unknown", error=str(error))
        else:
            has_answered = True
            if notice is not None:
                on_notice(notice)
                return
        await asyncio.sleep(poll_seconds)
    log.info("spot.not_watched")

"""The database address in a secret, read from a real HTTP server that speaks Secrets Manager."""

import json
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import aioboto3
import pytest
from moto.server import ThreadedMotoServer

from poller.errors import SettingsError, UnavailableError
from poller.postgres import pool
from poller.secretsmanager import DatabaseAddress, parse_secret


@pytest.fixture
def secretsmanager(aws: dict[str, str]) -> Iterator[None]:
    """Secrets Manager, where boto looks for it."""
    assert aws
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://{host}:{port}")
        yield
    server.stop()


async def put_secret(name: str, value: str) -> str:
    """Create a secret or give it a new value; returns its ARN."""
    async with aioboto3.Session().client("secretsmanager") as client:
        try:
            made = await client.create_secret(Name=name, SecretString=value)
        except client.exceptions.ResourceExistsException:
            made = await client.put_secret_value(SecretId=name, SecretString=value)
        return str(made["ARN"])


@pytest.mark.usefixtures("secretsmanager")
async def test_a_rotated_password_is_read_again(database_url: str) -> None:
    """After a refused password the secret is read once more; the host comes from the URL."""
    name = f"rotating-{secrets.token_hex(4)}"
    where = urlsplit(database_url)
    good = {"username": where.username, "password": where.password}
    bare = where._replace(netloc=f"{where.hostname}:{where.port}").geturl()
    arn = await put_secret(name, json.dumps({**good, "password": "the old one"}))
    address = DatabaseAddress(bare, arn)
    await address.url()
    await put_secret(name, json.dumps(good))

    async with pool.opened(address.url, max_size=1) as connections, pool.acquired(connections) as c:
        connected_as = await c.fetchval("SELECT current_user")

    assert connected_as == where.username


@pytest.mark.usefixtures("secretsmanager")
async def test_a_secret_that_is_not_there_is_an_outage() -> None:
    """The service waits for it like for any system that is away."""
    address = DatabaseAddress(None, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:no")

    with pytest.raises(UnavailableError) as away:
        await address.url()

    assert away.value.system == "secretsmanager"


@pytest.mark.parametrize(
    ("secret", "url", "expected"),
    [
        ("postgresql://u:p@h/d", None, "postgresql://u:p@h/d"),
        (
            '{"username": "u@x", "password": "p/:?", "host": "h", "port": 6000, "dbname": "d"}',
            None,
            "postgresql://u%40x:p%2F%3A%3F@h:6000/d",
        ),
        (
            '{"username": "u", "password": "p"}',
            "postgresql://h:6000/d?sslmode=require",
            "postgresql://u:p@h:6000/d?sslmode=require",
        ),
    ],
)
def test_what_a_secret_may_hold(secret: str, url: str | None, expected: str) -> None:
    """A URL, or the JSON that RDS writes, completed from the setting."""
    assert parse_secret(secret, url) == expected


@pytest.mark.parametrize("secret", ["", "hello", "[]", "{}", '{"username": "u", "password": "p"}'])
def test_what_a_secret_may_not_hold(secret: str) -> None:
    """The line says what is missing."""
    with pytest.raises(SettingsError):
        parse_secret(secret, None)

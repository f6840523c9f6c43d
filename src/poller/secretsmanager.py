"""The database URL, from the settings or from a secret that is read at run time."""

import json
from urllib.parse import quote, urlsplit

import aioboto3
from botocore.exceptions import BotoCoreError, ClientError

from poller.errors import SettingsError, UnavailableError


class DatabaseAddress:
    """Where the database is. A secret is read again when its password no longer works."""

    def __init__(self, url: str | None, secret_arn: str | None) -> None:
        self._url = url
        self._secret_arn = secret_arn
        self._current: str | None = None

    async def url(self, fresh: bool = False) -> str:
        """Return the URL to connect to; `fresh` reads the secret again.

        Raises:
            SettingsError: the secret lacks what a URL needs.
            UnavailableError: the secret cannot be read.
        """
        if self._secret_arn is None:
            assert self._url is not None  # noqa: S101 - `require` has seen to it
            return self._url
        if self._current is None or fresh:
            secret = await _read_secret(self._secret_arn)
            try:
                self._current = parse_secret(secret, self._url)
            except SettingsError as error:
                if self._current is None:
                    raise  # at the start: there is nothing to go on with
                raise UnavailableError("secretsmanager", str(error)) from error
        return self._current


def parse_secret(secret: str, url: str | None) -> str:
    """Make a database URL of a secret: a URL, or the JSON that RDS writes.

    What the JSON lacks (RDS leaves out the host) comes from `url`.

    Raises:
        SettingsError: something is missing in both.
    """
    if secret.startswith(("postgresql://", "postgres://")):
        return secret
    try:
        fields = json.loads(secret)
        user, password = fields["username"], fields["password"]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            ["the database secret is neither a URL nor JSON with username and password"]
        ) from error
    known = urlsplit(url or "")
    host = fields.get("host") or known.hostname
    name = fields.get("dbname") or known.path.lstrip("/")
    if not host or not name:
        raise SettingsError(
            ["the database secret has no host and dbname; give them in POLLER_DATABASE_URL"]
        )
    port = fields.get("port") or known.port or 5432
    query = f"?{known.query}" if known.query else ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{login}@{host}:{port}/{name}{query}"


async def _read_secret(arn: str) -> str:
    try:
        async with aioboto3.Session().client("secretsmanager") as client:
            response = await client.get_secret_value(SecretId=arn)
    except (ClientError, BotoCoreError, OSError) as error:
        raise UnavailableError("secretsmanager", str(error)) from error
    return str(response["SecretString"])

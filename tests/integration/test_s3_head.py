"""HeadObject as S3 answers it: without a body, and so without the name of the fault."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from poller import s3
from poller.errors import PermanentError, UnavailableError
from poller.s3 import Objects

_ERROR = "<Error><Code>{}</Code><Message>-</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "RequestTimeTooSkewed", UnavailableError),
        (403, "InvalidAccessKeyId", UnavailableError),
        (400, "ExpiredToken", UnavailableError),
        (403, "AccessDenied", PermanentError),
    ],
)
async def test_the_fault_has_a_name_after_all(
    aws: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    expected: type[Exception],
) -> None:
    """A worker with a wrong clock or key blames itself, and not every object that it looks at."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        text = None if request.method == "HEAD" else _ERROR.format(code)
        return web.Response(status=status, text=text, content_type="application/xml")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", str(server.make_url("/")))
        assert aws
        async with s3.open_client() as client:
            with pytest.raises(expected):
                await Objects(client).head("bucket", "key")

    assert asked[0] == "HEAD"
    assert "GET" in asked

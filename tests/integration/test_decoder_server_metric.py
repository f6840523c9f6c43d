"""What the metrics say of the process that decoders are forked from."""

from tests.integration.test_forkserver import find_server

from poller import metrics, service


async def test_a_restart_is_counted() -> None:
    """A fork server that was killed is replaced, and counted once."""
    before = metrics.DECODER_SERVER_RESTARTS._value.get()
    async with service._started_server() as server:
        find_server().kill()
        assert server._server is not None
        await server._server.process.wait()
        await server.start()

    assert metrics.DECODER_SERVER_RESTARTS._value.get() == before + 1

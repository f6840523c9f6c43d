"""The embedded AWS emulator: LocalStack in host mode, S3 and SQS, on a loopback port."""

import http.client
import importlib.util
import json
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from poller.errors import SettingsError
from poller.local.keeper import EmbeddedServerError, KeptServer

START_SECONDS = 90
_MAIN = Path(__file__).with_name("emulator_main.py")
REGION = "eu-west-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator."""

    endpoint_url: str
    server: KeptServer


def start(log: Path, *, port: int | None = None, lifeline: int | None = None) -> Emulator:
    """Start LocalStack and return once S3 and SQS answer (2 to 11 seconds).

    Raises:
        EmbeddedServerError: if it is not installed, the port is taken, or it does not get ready.
    """
    if importlib.util.find_spec("localstack") is None:
        raise EmbeddedServerError("LocalStack is not installed: pip install 'video-poller[local]'")
    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix="poller-emulator-"))
    server = KeptServer(
        # Without `-P` the modules beside that file would be taken for top-level ones.
        [sys.executable, "-P", str(_MAIN), str(directory / "objects")],
        directory=directory,
        log=log,
        env=_environment(directory, port),
        stop_signal=signal.SIGKILL,  # it has nothing to save, and a polite stop takes 3 s
        lifeline=lifeline,
    )
    server.wait_ready(lambda: _answers(port), seconds=START_SECONDS)
    return Emulator(f"http://127.0.0.1:{port}", server)


def free_port() -> int:
    """A loopback TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_free(port: int) -> None:
    """Check that nothing listens on a loopback TCP port.

    Raises:
        SettingsError: something does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SettingsError([f"port {port} is taken: {error.strerror}"]) from error


def _environment(directory: Path, port: int) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        # An endpoint or a credential of the caller would be used for calls between services.
        if not name.startswith(("AWS_", "POLLER_", "LOCALSTACK_"))
    }
    return inherited | {
        "SERVICES": "s3,sqs",
        "EAGER_SERVICE_LOADING": "1",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        # The plain 127.0.0.1 form still binds every interface; the IPv4-mapped one does not.
        "GATEWAY_LISTEN": f"[::ffff:127.0.0.1]:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        "SQS_DELAY_PURGE_RETRY": "1",
        "SQS_DISABLE_CLOUDWATCH_METRICS": "1",
        "S3_SKIP_SIGNATURE_VALIDATION": "0",
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": str(directory / "fs"),
        "XDG_CACHE_HOME": str(directory / "cache"),
    }


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/_localstack/health")
        services = json.load(connection.getresponse())["services"]
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return all(services.get(name) in {"available", "running"} for name in ("s3", "sqs"))

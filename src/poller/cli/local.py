"""`poller local`: the embedded stack until interrupted."""

import signal
import time
from pathlib import Path

from rich.console import Console

from poller.cli.typed import command
from poller.local.emulator import check_free
from poller.local.stack import Stack, check_unclaimed, described, running

ENVIRONMENT = Path(".env.local")
LOGS = Path(".local")
_LOOK_SECONDS = 1


def local(aws_port: int | None, postgres_port: int | None) -> None:
    """Start the stack, write `.env.local`, wait for an interrupt, and leave nothing behind.

    Raises:
        SettingsError: another stack is described there, or a port is taken.
        EmbeddedServerError: if a server does not start, or ends.
    """
    console = Console()
    # Both end it in every phase; a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    check_unclaimed(ENVIRONMENT)
    for port in (aws_port, postgres_port):
        if port is not None:
            check_free(port)
    console.print("Starting the emulator and Postgres …")
    try:
        with (
            running(
                LOGS, aws_port=aws_port, postgres_port=postgres_port, with_results=True
            ) as stack,
            described(stack, ENVIRONMENT),
        ):
            _tell(console, stack)
            while True:
                for server in stack.servers:
                    server.check_running()
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")


def _tell(console: Console, stack: Stack) -> None:
    for name, value in stack.environment.items():
        console.print(f"  {name}={value}", highlight=False, soft_wrap=True)
    console.print(f"Ready. These are in {ENVIRONMENT}; in another shell:")
    line = f"  set -a; . ./{ENVIRONMENT}; set +a; {command()} run"
    console.print(line, highlight=False, soft_wrap=True)
    console.print("Ctrl-C ends it.")

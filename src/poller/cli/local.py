"""`poller local`: the embedded stack until interrupted."""

import signal
from pathlib import Path

from rich.console import Console

from poller.local.stack import running, write_environment

ENVIRONMENT = Path(".env.local")
LOGS = Path(".local")


def local(aws_port: int | None, postgres_port: int | None) -> None:
    """Start the stack, write `.env.local`, wait for an interrupt, and leave nothing behind.

    Raises:
        EmbeddedServerError: if a server does not start.
    """
    console = Console()
    # Both end it in every phase; a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console.print("Starting the emulator and Postgres …")
    try:
        with running(LOGS, aws_port=aws_port, postgres_port=postgres_port) as stack:
            write_environment(stack, ENVIRONMENT)
            for name, value in stack.environment.items():
                console.print(f"  {name}={value}", highlight=False, soft_wrap=True)
            console.print(f"Ready. These are in {ENVIRONMENT}; in another shell:")
            console.print(f"  set -a; . ./{ENVIRONMENT}; set +a; poller run", highlight=False)
            console.print("Ctrl-C ends it.")
            signal.pause()
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
    finally:
        ENVIRONMENT.unlink(missing_ok=True)  # what it names is gone

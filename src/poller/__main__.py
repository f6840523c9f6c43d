"""`python -m poller` and the command `poller`."""

import os
import sys

from poller.cli import app
from poller.cli.typed import as_typed
from poller.errors import PermanentError, RetryableError, SettingsError, UnavailableError

_COLUMNS = 200
"""Where nobody looks on, as in the log of a task: people copy keys from there, whole ones."""


def main() -> None:
    """Run a command. Exit code 0: done, 1: failed, 2: usage or settings."""
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        os.environ.setdefault("COLUMNS", str(_COLUMNS))
    try:
        app()
    except SettingsError as error:
        _fail(error.lines, 2)
    except (PermanentError, RetryableError, UnavailableError) as error:
        _fail([str(error)], 1)


def _fail(lines: list[str], code: int) -> None:
    for line in lines:
        sys.stderr.write(f"poller: {as_typed(line)}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()

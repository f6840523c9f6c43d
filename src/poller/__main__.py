"""`python -m poller` and the command `poller`."""

import sys

from poller.cli import app
from poller.cli.typed import as_typed
from poller.errors import PermanentError, RetryableError, SettingsError, UnavailableError


def main() -> None:
    """Run a command. Exit code 0: done, 1: failed, 2: usage or settings."""
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

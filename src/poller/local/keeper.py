"""Server processes that cannot outlive the process that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from poller.errors import UnavailableError
from poller.local import keeper_main


class EmbeddedServerError(UnavailableError):
    """An embedded server ended unasked, or was not ready in time."""

    def __init__(self, detail: str) -> None:
        super().__init__("an embedded server", detail)


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged account that a server runs under."""

    uid: int
    gid: int


class KeptServer:
    """A running server, its keeper, and the pipe that both of their lives hang on.

    `lifeline` is the read end of a pipe that somebody else holds open; the server then lives as
    long as that somebody. Without one it lives as long as this process, or until `stop`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        log: Path,
        env: Mapping[str, str],
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        lifeline: int | None = None,
    ) -> None:
        self.log = log
        self.directory = directory
        options = ["--stop-signal", str(int(stop_signal)), "--directory", str(directory)]
        if account is not None:
            options += ["--uid", str(account.uid), "--gid", str(account.gid)]
        self._write_end: int | None = None
        if lifeline is None:
            lifeline, self._write_end = os.pipe()
        with log.open("wb") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", keeper_main.__file__, *options, "--", *command],
                stdin=lifeline,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,  # Ctrl-C in the terminal is the owner's to handle
            )
        os.close(lifeline)

    @property
    def pid(self) -> int:
        """Process id of the keeper, the parent of the server."""
        return self._keeper.pid

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Return when `ready` says so.

        Raises:
            EmbeddedServerError: with the end of the log, after the server has been stopped.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check_running()
            if time.monotonic() > deadline:
                self.stop()
                self._raise_fault(f"was not ready within {seconds:g} s")
            time.sleep(0.05)

    def check_running(self) -> None:
        """Raise `EmbeddedServerError`, with the end of the log, if the server has ended."""
        if self._keeper.poll() is not None:
            self.stop()
            self._raise_fault("ended")

    def stop(self) -> None:
        """End the server and its children, and remove its directory."""
        if self._write_end is None:
            self._keeper.terminate()
        else:
            os.close(self._write_end)
            self._write_end = None
        self._keeper.wait(keeper_main.GRACE_SECONDS * 2)

    def _raise_fault(self, fault: str) -> NoReturn:
        last_words = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise EmbeddedServerError(f"{fault}; {self.log} ends with:\n{last_words}")

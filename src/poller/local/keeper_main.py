"""The process between an owner and an embedded server: it ends the server when the owner is gone.

The owner holds the write end of the pipe that is this process's standard input and never writes.
End of file means that the owner stopped or died, even by SIGKILL. Standard library only, so that
it starts in a few milliseconds.
"""

import argparse
import os
import select
import shutil
import signal
import subprocess
import sys

GRACE_SECONDS = 10


def main() -> int:
    """Run the command until it ends, standard input ends, or a signal arrives."""
    arguments = _parse()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    server = subprocess.Popen(
        arguments.command,
        stdin=subprocess.DEVNULL,
        cwd=arguments.directory,
        start_new_session=True,
        user=arguments.uid,
        group=arguments.gid,
        extra_groups=None if arguments.uid is None else [],
    )
    _await_end(server, wake)
    try:
        return _end(server, arguments.stop_signal)
    finally:
        shutil.rmtree(arguments.directory, ignore_errors=True)


def _await_end(server: subprocess.Popen[bytes], wake: int) -> None:
    while server.poll() is None:
        ready, _, _ = select.select([sys.stdin, wake], [], [])
        # SIGCHLD also says that the server was stopped or goes on, which is no end.
        if sys.stdin in ready or set(os.read(wake, 64)) != {signal.SIGCHLD}:
            return


def _end(server: subprocess.Popen[bytes], stop_signal: int) -> int:
    if server.poll() is None:
        server.send_signal(stop_signal)
    try:
        return server.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()
    finally:
        _kill_group(server.pid)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # the usual case: the server left no children behind


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

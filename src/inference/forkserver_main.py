"""The fork server's process: loads what decoders need, then forks one for each request.

It opens no file of a stranger's and holds nothing that a decoder may not know; what a decoder may
not do is taken from it after the fork, by `decoder_main`. One thread only: a fork copies no other.
"""

import ctypes
import errno
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from inference import decoder_main
from inference.confinement import bind_to_parent
from inference.wire import DECODER_NAME, Order

_MOST_BYTES = 1 << 16
_MOST_DESCRIPTORS = 16
_PR_SET_NAME = 15


class _Server:
    """Forks on request, reaps, and tells each exit status over the decoder's tether."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until nobody is left to ask."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._requests:
                    request, descriptors, _, _ = socket.recv_fds(
                        self._requests, _MOST_BYTES, _MOST_DESCRIPTORS
                    )
                    if not request:
                        return
                    self._take(request, descriptors)
                elif isinstance(key.fileobj, socket.socket):
                    self._kill(key.fileobj, key.data)
                else:
                    self._reap(key.fd, *key.data)

    def _take(self, request: bytes, descriptors: Sequence[int]) -> None:
        match len(descriptors):
            case 1:  # somebody asks whether anybody is there, or has asked and gone
                with suppress(OSError):
                    os.write(descriptors[0], b"yes\n")
                os.close(descriptors[0])
            case 5:
                self._fork(request, descriptors)
            case _:  # some were lost, for want of room for them: who asked sees all of them closed
                for descriptor in descriptors:
                    os.close(descriptor)

    def _fork(self, request: bytes, descriptors: Sequence[int]) -> None:
        parent, tether = os.getpid(), socket.socket(fileno=descriptors[-1])
        tether.setblocking(False)
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, too little memory: the others go on
            pid = -(error.errno or errno.EAGAIN)
        if pid == 0:
            _decode(parent, request, descriptors)
        for descriptor in descriptors[:-1]:
            os.close(descriptor)
        self._tell(tether, pid)
        if pid < 0:
            tether.close()
            return
        with suppress(OSError):  # it was faster, or is gone
            os.setpgid(pid, pid)
        self._selector.register(tether, selectors.EVENT_READ, pid)
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, tether))

    def _kill(self, tether: socket.socket, pid: int) -> None:
        """The other end was closed. The number still is the decoder's: it is not reaped yet."""
        try:
            self._selector.unregister(tether)
        except ValueError:  # reaped in the same round, and closed
            return
        os.kill(pid, signal.SIGKILL)  # by itself first: it may have left its group
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _reap(self, descriptor: int, pid: int, tether: socket.socket) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        with suppress(KeyError):  # it was killed
            self._selector.unregister(tether)
        with suppress(ProcessLookupError):  # what it may have started
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self._tell(tether, os.waitstatus_to_exitcode(status))
        tether.close()

    def _tell(self, tether: socket.socket, number: int) -> None:
        with suppress(OSError):  # nobody wants to know any more
            tether.send(b"%d\n" % number)


def main(arguments: Sequence[str]) -> None:
    """Serve the process with the first argument's number over the descriptor in the second."""
    parent, descriptor = map(int, arguments)
    bind_to_parent(parent)
    os.close(os.pidfd_open(os.getpid()))  # Linux 5.3: better no start than no decoder
    gc.freeze()  # what is collected after a fork is a page copied for nothing
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with socket.socket(fileno=descriptor) as requests:
        _Server(requests).serve()


def _decode(parent: int, request: bytes, descriptors: Sequence[int]) -> None:
    """Be a decoder, and end as one, whatever happens."""
    status = 1
    try:
        os.setpgid(0, 0)
        bind_to_parent(parent)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, DECODER_NAME.encode())
        stdin, stdout, stderr, slabs, _ = descriptors
        for place, descriptor in enumerate((stdin, stdout, stderr)):
            os.dup2(descriptor, place)
        _close_all_but({0, 1, 2, slabs})
        order = Order(**json.loads(request))
        os.chdir(Path(order.path).parent)
        decoder_main.run(order, slabs)
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:  # noqa: BLE001 # the server's loop must not go on in this process
        traceback.print_exc()
    finally:
        os._exit(status)


def _close_all_but(kept: AbstractSet[int]) -> None:
    """What belongs to the server or to other decoders."""
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with suppress(OSError):  # the list's own
                os.close(descriptor)

"""Landlock: what this process may still open once it has restricted itself, without being root.

Straight to the kernel (`linux/landlock.h`): the bindings on PyPI are pre-releases.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Each version's further rights: all of the first one, rename, truncate, ioctl on devices."""
_NET_VERSION, _NET_RIGHTS = 4, 0b11
"""Bind and connect over TCP."""
_SCOPE_VERSION, _SCOPES = 6, 0b11
"""Abstract Unix sockets of other processes, and signals to them."""


def version() -> int:
    """Return the version that the kernel speaks; 0 where it has none, or is told not to."""
    found: int = ctypes.CDLL(None).syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_RULESET_VERSION)
    )
    return max(0, found)


def restrict(readable: Iterable[Path]) -> bool:
    """Let this thread, and those it starts, open nothing but these files and trees, for reading.

    No TCP either, and no signal to others, where the kernel knows how. What is open stays open,
    and paths that do not exist are left out. Returns whether the kernel has Landlock at all.

    Raises:
        OSError: the kernel has it and refuses.
    """
    spoken = version()
    if spoken == 0:
        return False
    handled = sum(rights for since, rights in _FILE_RIGHTS.items() if since <= spoken)
    net = _NET_RIGHTS if spoken >= _NET_VERSION else 0
    scopes = _SCOPES if spoken >= _SCOPE_VERSION else 0
    # Older kernels take the longer structure as long as what they do not know is zero.
    attributes = struct.pack("=QQQ", handled, net, scopes)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            _allow(ruleset, path)
    forbid_privileges()
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return True


def forbid_privileges() -> None:
    """Give up what an executable could add, for good: the kernel asks for it before a cage."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))


def _allow(ruleset: int, path: Path) -> None:
    rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        beneath = struct.pack("=Qi", rights, descriptor)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, beneath, 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    passed = (a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments)
    result: int = libc.syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock call {number} failed")
    return result

"""Seccomp: the system calls that a process may not make any more once it has a filter.

A list of what is forbidden, not of what is allowed: what torch, FFmpeg and libc call differs from
version to version, and a cage that breaks with an update would be taken off. Straight to the
kernel (`linux/seccomp.h`, `linux/filter.h`): the one binding on PyPI that is in use is from 2021
and looks for its library by starting a compiler.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from itertools import chain

from inference.landlock import forbid_privileges

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_TSYNC = 1
_X32 = 0x40000000
"""From here on x86-64 has a second set of numbers for the same calls."""

_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_FORBIDDEN: dict[str, tuple[Sequence[int], Sequence[int]]] = {
    # x86_64, aarch64; where one is shorter, the call is not there
    "sockets, of every family": (
        (41, 53, 49, 42, 50, 43, 288, 44, 46, 307),
        (198, 199, 200, 203, 201, 202, 242, 206, 211, 269),
    ),
    "execve, execveat, fork, vfork": ((59, 322, 57, 58), (221, 281)),
    "ptrace, process_vm_readv, process_vm_writev, process_madvise, kcmp, pidfd_*": (
        (101, 310, 311, 440, 312, 434, 438, 424),
        (117, 270, 271, 440, 272, 434, 438, 424),
    ),
    "tkill, rt_sigqueueinfo, rt_tgsigqueueinfo": ((200, 129, 297), (130, 138, 240)),
    "setpgid, setsid: what is killed as a group stays in it": ((109, 112), (154, 157)),
    "setpriority, ioprio_set, sched_set*, migrate_pages, move_pages": (
        (141, 251, 144, 314, 142, 203, 256, 279),
        (140, 30, 119, 274, 118, 122, 238, 239),
    ),
    "io_uring_*, which makes calls that no filter sees": ((425, 426, 427), (425, 426, 427)),
    "bpf, perf_event_open, userfaultfd, keys": (
        (321, 298, 323, 248, 249, 250),
        (280, 241, 282, 217, 218, 219),
    ),
    "mounts, roots, namespaces": (
        (165, 166, 155, 161, 272, 308, 428, 429, 430, 431, 432, 433, 442),
        (40, 39, 41, 51, 97, 268, 428, 429, 430, 431, 432, 433, 442),
    ),
    "modules, kexec, reboot, swap, clocks": (
        (175, 313, 176, 246, 320, 169, 167, 168, 164, 227, 159),
        (105, 273, 106, 104, 294, 142, 224, 225, 170, 112, 171),
    ),
    "creat, truncate, unlink, rename, link, symlink, mkdir, rmdir, mknod": (
        (85, 76, 87, 263, 82, 264, 316, 86, 265, 88, 266, 83, 258, 84, 133, 259),
        (45, 35, 38, 276, 37, 36, 34, 33),
    ),
    "modes, owners, attributes and times of files": (
        (
            *(90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 463, 197, 198, 199, 466),
            *(132, 235, 280, 261),
        ),
        (52, 53, 452, 55, 54, 5, 6, 7, 463, 14, 15, 16, 466, 88),
    ),
    "file handles, anonymous files": ((304, 303, 319, 447), (265, 264, 279, 447)),
    "System V and POSIX queues and shared memory": (
        (29, 30, 31, 68, 69, 70, 71, 64, 65, 66, 220, 240, 241),
        (194, 196, 195, 186, 189, 188, 187, 190, 193, 191, 192, 180, 181),
    ),
}
# Their arguments are out of the filter's sight; libc makes the older call when it hears this.
_NOT_THERE = {"x86_64": (435, 437), "aarch64": (435, 437)}  # clone3, openat2
_OPEN = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}
"""Number, and which argument holds the flags."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE_THREAD = 0x10000
_KILLS = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_PR_SET_PDEATHSIG = 1
_FCNTL = {"x86_64": 72, "aarch64": 25}
_FCNTLS = (fcntl.F_SETOWN, 15, fcntl.F_SETSIG, fcntl.F_SETLEASE, fcntl.F_NOTIFY, fcntl.F_ADD_SEALS)
"""Who hears of a descriptor, and by which signal; 15: F_SETOWN_EX. And seals, which last."""
_IOCTL = {"x86_64": 16, "aarch64": 29}
_IOCTLS = (0x8901, 0x8902, 0x5452)  # FIOSETOWN, SIOCSPGRP, FIOASYNC: the same by another name

_Instruction = tuple[int, int, int, int]
_REFUSE: _Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
_PASS: _Instruction = (_RETURN, 0, 0, _ALLOW)


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def is_offered() -> bool:
    """Tell whether this kernel filters system calls and this module knows its numbers."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    action = struct.pack("=I", _ERRNO)
    return _seccomp(_GET_ACTION_AVAIL, 0, action) == 0


def install() -> bool:
    """Take the forbidden calls from all threads of this process, for good.

    They fail with EPERM: no socket, no program, no other process (threads are allowed), no
    signal to others in whatever way, no file opened for writing, created, renamed or removed.
    Returns False where `is_offered` does.

    Raises:
        OSError: the kernel has filters and refuses this one.
    """
    if not is_offered():
        return False
    code = b"".join(struct.pack("=HBBI", *one) for one in _compile(platform.machine(), os.getpid()))
    forbid_privileges()
    # Each instruction has eight bytes.
    program = _Program(len(code) // 8, code)
    if _seccomp(_SET_MODE_FILTER, _TSYNC, ctypes.byref(program)) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused the filter of system calls")
    return True


def _seccomp(operation: int, flags: int, argument: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(_SECCOMP[platform.machine()])
    result: int = libc.syscall(number, ctypes.c_ulong(operation), ctypes.c_ulong(flags), argument)
    return result


def _compile(machine: str, pid: int) -> Iterator[_Instruction]:
    """Write the filter: each rule ends with a verdict or falls through to the next."""
    yield (_LOAD, 0, 0, _ARCHITECTURE_AT)
    yield (_EQUAL, 1, 0, _ARCHITECTURES[machine])
    yield (_RETURN, 0, 0, _KILL)
    yield (_LOAD, 0, 0, _NUMBER_AT)
    yield from ((_AT_LEAST, 0, 1, _X32), _REFUSE)
    column = list(_ARCHITECTURES).index(machine)
    for number in chain.from_iterable(calls[column] for calls in _FORBIDDEN.values()):
        yield from ((_EQUAL, 0, 1, number), _REFUSE)
    for number in _NOT_THERE[machine]:
        yield from ((_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS))
    for number, position in _OPEN[machine]:
        yield from _if_argument(number, position, _ANY_BIT, _WRITING, (_REFUSE, _PASS))
    yield from _if_argument(_CLONE[machine], 0, _ANY_BIT, _CLONE_THREAD, (_PASS, _REFUSE))
    for number in _KILLS[machine]:
        yield from _if_argument(number, 0, _EQUAL, pid, (_PASS, _REFUSE))
    yield from _if_argument(_PRLIMIT[machine], 0, _EQUAL, 0, (_PASS, _REFUSE))
    yield from _if_argument(_PRCTL[machine], 0, _EQUAL, _PR_SET_PDEATHSIG, (_REFUSE, _PASS))
    for table, commands in ((_FCNTL, _FCNTLS), (_IOCTL, _IOCTLS)):
        for command in commands:
            yield from _refuse_command(table[machine], (1, _EQUAL, command))
    asks_for_signals = (1, _EQUAL, fcntl.F_SETFL), (2, _ANY_BIT, os.O_ASYNC)
    yield from _refuse_command(_FCNTL[machine], *asks_for_signals)
    yield _PASS


def _refuse_command(number: int, *tests: tuple[int, int, int]) -> Iterator[_Instruction]:
    """Refuse a call if all tests hold (position, test, value); others fall through."""
    steps = 2 * len(tests)
    yield (_EQUAL, 0, steps + 2, number)
    for place, (position, test, value) in enumerate(tests):
        yield (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * position)
        yield (test, 0, steps - 2 * place - 1, value)
    yield _REFUSE
    yield (_LOAD, 0, 0, _NUMBER_AT)


def _if_argument(
    number: int,
    position: int,
    test: int,
    value: int,
    verdicts: tuple[_Instruction, _Instruction],
) -> Iterator[_Instruction]:
    """Judge a call by the low word of one argument: the first verdict if the test holds."""
    yield (_EQUAL, 0, 4, number)
    yield (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * position)  # both architectures are little-endian
    yield (test, 0, 1, value)
    yield from verdicts

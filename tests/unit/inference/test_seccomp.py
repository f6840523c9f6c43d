"""The filter of system calls, read as the kernel reads it: for both architectures, on any."""

import errno
import os
import struct

import pytest

from inference import seccomp

PID = 4711
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
KILL = 0x80000000
THREAD, FORK = 0x3D0F00, 0x1200011
"""The flags with which glibc calls clone for a thread and for a process."""
ATTEMPTS = [
    # name, x86_64, aarch64 (their numbers in the kernel's tables), arguments, verdict
    ("read", 0, 63, (0,), ALLOW),
    ("write", 1, 64, (1,), ALLOW),
    ("mmap", 9, 222, (), ALLOW),
    ("mprotect", 10, 226, (), ALLOW),
    ("futex", 202, 98, (), ALLOW),
    ("exit_group", 231, 94, (), ALLOW),
    ("ftruncate", 77, 46, (2, 0), ALLOW),  # how the log is shortened
    ("getrandom", 318, 278, (), ALLOW),
    ("socket", 41, 198, (2, 1), EPERM),
    ("connect", 42, 203, (), EPERM),
    ("sendmsg", 46, 211, (), EPERM),
    ("execve", 59, 221, (), EPERM),
    ("execveat", 322, 281, (), EPERM),
    ("fork", 57, None, (), EPERM),
    ("clone, thread", 56, 220, (THREAD,), ALLOW),
    ("clone, process", 56, 220, (FORK,), EPERM),
    ("clone3", 435, 435, (), ENOSYS),
    ("ptrace", 101, 117, (), EPERM),
    ("process_vm_readv", 310, 270, (), EPERM),
    ("kill, itself", 62, 129, (PID, 6), ALLOW),
    ("kill, another", 62, 129, (PID - 1, 6), EPERM),
    ("kill, its group", 62, 129, (0, 6), EPERM),
    ("kill, all", 62, 129, (2**64 - 1, 6), EPERM),
    ("tgkill, itself", 234, 131, (PID, PID + 1, 6), ALLOW),
    ("tgkill, another", 234, 131, (1, 1, 6), EPERM),
    ("open, to read", 2, None, (0, os.O_RDONLY | os.O_CLOEXEC), ALLOW),
    ("open, to write", 2, None, (0, os.O_WRONLY), EPERM),
    ("openat, to read", 257, 56, (0, 0, os.O_RDONLY | os.O_CLOEXEC), ALLOW),
    ("openat, to write", 257, 56, (0, 0, os.O_WRONLY), EPERM),
    ("openat, both", 257, 56, (0, 0, os.O_RDWR), EPERM),
    ("openat, to create", 257, 56, (0, 0, os.O_CREAT), EPERM),
    ("openat, to empty", 257, 56, (0, 0, os.O_TRUNC), EPERM),
    ("openat, unnamed", 257, 56, (0, 0, os.O_TMPFILE | os.O_WRONLY), EPERM),
    ("openat2", 437, 437, (), ENOSYS),
    ("unlinkat", 263, 35, (), EPERM),
    ("renameat2", 316, 276, (), EPERM),
    ("mkdirat", 258, 34, (), EPERM),
    ("io_uring_setup", 425, 425, (), EPERM),
    ("memfd_create", 319, 279, (), EPERM),
    ("prctl, a thread's name", 157, 167, (15,), ALLOW),
    ("prctl, outlive the parent", 157, 167, (1, 0), EPERM),
    ("prlimit64, its own", 302, 261, (0, 7), ALLOW),
    ("prlimit64, another's", 302, 261, (PID - 1, 7), EPERM),
    ("mount", 165, 40, (), EPERM),
    ("unshare", 272, 97, (), EPERM),
    ("bpf", 321, 280, (), EPERM),
    ("fcntl, a copy", 72, 25, (3, 1030), ALLOW),
    ("fcntl, close on exec", 72, 25, (3, 2, 1), ALLOW),
    ("fcntl, read flags", 72, 25, (3, 3), ALLOW),
    ("fcntl, not to wait", 72, 25, (3, 4, os.O_NONBLOCK), ALLOW),
    ("fcntl, signals", 72, 25, (3, 4, os.O_ASYNC | os.O_NONBLOCK), EPERM),
    ("fcntl, to whom", 72, 25, (3, 8, PID - 1), EPERM),
    ("fcntl, to which thread", 72, 25, (3, 15), EPERM),
    ("fcntl, which signal", 72, 25, (3, 10, 9), EPERM),
    ("fcntl, a lease", 72, 25, (3, 1024, 1), EPERM),
    ("fcntl, a watched directory", 72, 25, (3, 1026), EPERM),
    ("fcntl, seals", 72, 25, (3, 1033, 8), EPERM),
    ("fcntl, which seals there are", 72, 25, (3, 1034), ALLOW),
    ("ioctl, how much there is to read", 16, 29, (3, 0x541B), ALLOW),
    ("ioctl, to whom", 16, 29, (3, 0x8901), EPERM),
    ("ioctl, to which group", 16, 29, (3, 0x8902), EPERM),
    ("ioctl, signals", 16, 29, (3, 0x5452), EPERM),
]


def judge(machine: str, architecture: int, number: int, *arguments: int) -> int:
    """Run the filter over one call: `struct seccomp_data`, and the part of BPF that is used."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(arguments + (0,) * 6)[:6])
    program = list(seccomp._compile(machine, PID))
    position, loaded = 0, 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, value)
            case 0x06:
                return value
            case 0x15 | 0x35 | 0x45:
                holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}
                position += if_true if holds[code] else if_false
            case _:
                pytest.fail(f"no such instruction: {code:#x}")


@pytest.mark.parametrize(("what", "x86", "arm", "arguments", "verdict"), ATTEMPTS)
def test_a_call_is_judged(
    what: str, x86: int, arm: int | None, arguments: tuple[int, ...], verdict: int
) -> None:
    """Alike on both architectures, by its number there."""
    assert what
    judged = [judge("x86_64", 0xC000003E, x86, *arguments)]
    if arm is not None:
        judged.append(judge("aarch64", 0xC00000B7, arm, *arguments))

    assert set(judged) == {verdict}


def test_numbers_of_another_kind() -> None:
    """A call by 32-bit numbers ends the process; x32's second set of numbers is refused."""
    assert judge("x86_64", 0x40000003, 102) == KILL
    assert judge("x86_64", 0xC000003E, 0x40000000 | 41) == EPERM


def test_the_kernel_takes_filters_of_this_length() -> None:
    """4096 instructions, and jumps that stay within."""
    for machine in ("x86_64", "aarch64"):
        assert len(list(seccomp._compile(machine, PID))) < 4096

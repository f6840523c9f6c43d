"""The decoder's cage, tried by a process that means harm: what a decoder could be made to do."""

import asyncio
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.factories_video import decode_all, make_request, make_slabs, make_video, open_decoder

from inference import landlock, seccomp
from inference.confinement import missing
from inference.decode import Limits
from inference.errors import DecoderFailedError

SOURCE = Path(__file__).parents[2] / "src"

needs_landlock = pytest.mark.skipif(
    landlock.version() == 0, reason="this kernel has no Landlock, or the container forbids it"
)
needs_seccomp = pytest.mark.skipif(
    not seccomp.is_offered(), reason="this kernel filters no system calls"
)

PRELUDE = """
import ctypes, fcntl, os, signal, socket, subprocess, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from inference import landlock, seccomp
from inference.confinement import confine, missing
PIPE, _ = os.pipe()
SLABS = os.memfd_create("slabs", os.MFD_ALLOW_SEALING)
parent, outside = os.getppid(), Path(sys.argv[2])
def cage():
    confine(memory_bytes=1 << 30, cpu_seconds=60)
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "call")
def attempt(what):
    try:
        exec(what)
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""

READS = {
    "a file of the system": "open('/etc/passwd').read()",
    "another video's directory": "(outside / 'other').read_bytes()",
    "a list of the other videos": "os.listdir(outside)",
    "the service's environment": "open(f'/proc/{parent}/environ').read()",
    "the service's memory": "open(f'/proc/{parent}/mem').close()",
    "a way around the names": "open(os.path.join('..', 'outside', 'other')).read()",
    "what a link points to": "open('link').read()",
}
CALLS = {
    "socket, inet": "socket.socket()",
    "socket, unix": "socket.socket(socket.AF_UNIX)",
    "socket, netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "socket pair": "socket.socketpair()",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', 'print(\"done\")'])",
    "program": "subprocess.run([sys.executable, '-V'], check=True, stdout=subprocess.DEVNULL)",
    "fork": "os._exit(0) if os.fork() == 0 else os.wait()",
    "spawn": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "write": "(outside / 'new').write_text('x')",
    "write at home": "Path('new').write_text('x')",
    "overwrite": "Path('own').write_text('x')",
    "append": "open('own', 'a').close()",
    "unlink": "os.unlink('own')",
    "rename": "os.rename('own', 'renamed')",
    "link": "os.link('own', 'linked')",
    "symlink": "os.symlink('/', 'symlinked')",
    "mkdir": "os.mkdir('directory')",
    "fifo": "os.mkfifo('fifo')",
    "chmod": "os.chmod('own', 0o777)",
    "utime": "os.utime('own')",
    "truncate": "os.truncate('own', 1)",
    "anonymous file": "os.close(os.memfd_create('x'))",
    "signal": "os.kill(parent, 0)",
    "signal to all": "os.kill(-1, 0)",
    "watch a process": "os.close(os.pidfd_open(parent))",
    "group": "os.setpgid(0, 0)",
    "session": "os.setsid()",
    "priority": "os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent))",
    "cores": "os.sched_setaffinity(parent, os.sched_getaffinity(parent))",
    "limits": "__import__('resource').prlimit(parent, 7)",
    "a pipe's signals": "fcntl.fcntl(PIPE, fcntl.F_SETOWN, parent)",
    "a pipe's signals, by number": "fcntl.fcntl(PIPE, fcntl.F_SETSIG, signal.SIGKILL)",
    "a pipe that signals": "fcntl.fcntl(PIPE, fcntl.F_SETFL, os.O_ASYNC)",
    "a pipe that signals, otherwise": "fcntl.ioctl(PIPE, 0x5452, b'\\1\\0\\0\\0')",
    "seals": "fcntl.fcntl(SLABS, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)",
    "outlive the parent": "call(seccomp._PRCTL[os.uname().machine], 1, 0)",
}


async def run(directory: Path, script: str) -> str:
    """Run a script in a directory of its own, beside one with another's file; its last word."""
    own, outside = directory / "own", directory / "outside"
    for made in (own, outside):
        made.mkdir()
    (own / "own").write_text("mine")
    (outside / "other").write_text("not yours")
    (own / "link").symlink_to(outside / "other")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", PRELUDE + script, str(SOURCE), str(outside)),
        cwd=own,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return output.decode().strip()


@needs_landlock
@pytest.mark.parametrize("what", READS.values(), ids=READS)
async def test_it_reads_nothing_but_its_own(tmp_path: Path, what: str) -> None:
    """What any process may read, a caged one may not."""
    for name in ("free", "caged"):
        (tmp_path / name).mkdir()

    free = await run(tmp_path / "free", f"attempt({what!r})")
    caged = await run(tmp_path / "caged", f"cage()\nattempt({what!r})")

    assert (free, caged) == ("done", "PermissionError")


@needs_seccomp
@pytest.mark.parametrize("what", CALLS.values(), ids=CALLS)
async def test_it_does_nothing_but_read(tmp_path: Path, what: str) -> None:
    """No network, no program, no process, no change to any file, no hand on others."""
    for name in ("free", "caged"):
        (tmp_path / name).mkdir()

    free = await run(tmp_path / "free", f"attempt({what!r})")
    caged = await run(tmp_path / "caged", f"cage()\nattempt({what!r})")

    assert free in {"done", ""}  # a program that took its place says nothing
    assert caged == "PermissionError"
    assert sorted(path.name for path in (tmp_path / "caged/own").iterdir()) == ["link", "own"]
    assert (tmp_path / "caged/own/own").read_text() == "mine"


@needs_seccomp
async def test_other_threads_are_caged_too(tmp_path: Path) -> None:
    """A thread that was there before has no more rights than those that come after."""
    script = """
caged = threading.Event()
def late():
    caged.wait()
    attempt("socket.socket()")
thread = threading.Thread(target=late)
thread.start()
cage()
caged.set()
thread.join()
"""
    assert await run(tmp_path, script) == "PermissionError"


@needs_seccomp
async def test_threads_and_its_own_abort_are_left_to_it(tmp_path: Path) -> None:
    """Decoders use threads; and a crash must still name its signal."""
    script = """
cage()
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
sys.stdout.flush()
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
signal.raise_signal(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
Path("own").read_text()
os.listdir(".")
"""
    assert (await run(tmp_path, script)).split() == ["thread", "signal", "signal"]


@needs_seccomp
async def test_a_kernel_that_offers_nothing(tmp_path: Path) -> None:
    """As under a container's own filter: the limits hold, nothing fails, and it is told."""
    script = """
calls = (444, 445, 446, seccomp._SECCOMP[os.uname().machine])
seccomp._FORBIDDEN = {"the cage": (calls, calls)}
seccomp.install()
cage()
print(len(missing()), __import__("resource").getrlimit(7)[0])
"""
    assert await run(tmp_path, script) == "2 64"


@needs_landlock
@needs_seccomp
async def test_this_machine_has_the_whole_cage(tmp_path: Path) -> None:
    """Nothing is missing here, and a running decoder is in it, with the limits of its request."""
    path = make_video(tmp_path / "v.mp4", frames=240)
    slabs = make_slabs()

    async with open_decoder(make_request(path), Limits(3600), slabs) as decoding:
        status = Path(f"/proc/{decoding.pid}/status").read_text()
        limits = psutil.Process(decoding.pid).rlimit(psutil.RLIMIT_NOFILE)

    words = dict(line.split(":\t", 1) for line in status.splitlines())
    assert missing() == []
    assert (words["Seccomp"], words["NoNewPrivs"]) == ("2", "1")
    assert limits == (64, 64)
    slabs.close()


@needs_landlock
async def test_a_link_out_of_its_directory_leads_nowhere(tmp_path: Path) -> None:
    """The decoder itself reads what lies beside its file, and no other file, whatever its name."""
    (tmp_path / "jobs").mkdir()
    video = make_video(tmp_path / "v.mp4")
    link = tmp_path / "jobs" / "video"
    link.symlink_to(video)
    beside = tmp_path / "link"
    beside.symlink_to(video)

    with pytest.raises(DecoderFailedError, match="Permission denied"):
        await decode_all(link)

    assert len((await decode_all(beside)).times_ms) == 48


@needs_landlock
@needs_seccomp
async def test_it_costs_little(tmp_path: Path) -> None:
    """The decoder starts no more than 20 ms later for its cage."""
    script = """
start = time.process_time()
cage()
print(time.process_time() - start)
"""
    started = time.perf_counter()
    seconds = float(await run(tmp_path, script))

    assert seconds < 0.02, (os.getloadavg(), time.perf_counter() - started)

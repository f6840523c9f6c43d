"""The fork server: what its decoders share, and what becomes of them when it fails."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.factories_video import find_decoders, make_request, make_slabs, make_video

from inference import child, forkserver
from inference.decode import Decoding, Limits, Request
from inference.errors import DecoderFailedError, DecodersUnavailableError
from inference.forkserver import ForkServer
from inference.frames import Gap
from inference.slabs import Slabs

LIMITS = Limits(3600)


def make_long_video(directory: Path) -> Path:
    """A video with more frames than a decoder may hand over unasked."""
    directory.mkdir(exist_ok=True)
    return make_video(directory / "long.mp4", frames=240)


async def count_frames(decoding: Decoding) -> int:
    """Read to the end."""
    frames = 0
    async for item in decoding:
        assert not isinstance(item, Gap)
        frames += len(item.pts_ms)
        decoding.release(item)
    return frames


async def decoding_anew(server: ForkServer, request: Request, slabs: Slabs) -> int:
    """Frames that another decoder gives."""
    async with Decoding(server, request, LIMITS, slabs) as decoding:
        return await count_frames(decoding)


def find_server() -> psutil.Process:
    """The one fork server below this process."""
    (found,) = [
        process
        for process in psutil.Process().children()
        if "inference.forkserver_main" in process.cmdline()
    ]
    return found


def inherited(pid: int) -> set[str]:
    """What a decoder's descriptors lead to."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(link.readlink()))
    return found


async def test_decoders_share_nothing_of_their_own(tmp_path: Path, server: ForkServer) -> None:
    """Each has its own pipes, log and frame memory, and none of another's or of the server's."""
    first, second = (make_request(make_long_video(tmp_path / name)) for name in "ab")
    slabs, more = make_slabs(), make_slabs()

    async with (
        Decoding(server, first, LIMITS, slabs) as early,
        Decoding(server, second, LIMITS, more) as late,
    ):
        seen = find_decoders(first.path), find_decoders(second.path)
        ours = inherited(early.pid), inherited(late.pid)
        frames = [await count_frames(early), await count_frames(late)]

    assert frames == [240, 240]
    assert seen == ([early.pid], [late.pid])
    pipes = [{target for target in found if "pipe" in target} for found in ours]
    assert [len(found) for found in pipes] == [2, 2]
    assert not pipes[0] & pipes[1]
    for found in ours:
        kinds = [target.split(":")[0] for target in found]
        assert kinds.count("/memfd") == 2  # its frames and its log
        assert not {"socket", "anon_inode"} & set(kinds)
    slabs.close()
    more.close()


async def test_one_server_for_all(tmp_path: Path, server: ForkServer) -> None:
    """It stays between decoders, and leaves with its owner."""
    request, slabs = make_request(make_long_video(tmp_path)), make_slabs()
    servers = []

    for _ in range(2):
        async with Decoding(server, request, LIMITS, slabs) as decoding:
            servers.append(find_server())
            assert await count_frames(decoding) == 240
    await server.close()

    assert servers[0] == servers[1]
    assert not servers[0].is_running()
    slabs.close()


async def test_the_server_is_killed(tmp_path: Path) -> None:
    """Its decoders die with it, which is told; the next decoder gets a new server, and one only."""
    told: list[tuple[str, str]] = []
    server = ForkServer(lambda *trouble: told.append(trouble))
    request, slabs = make_request(make_long_video(tmp_path)), make_slabs()

    with pytest.raises(DecoderFailedError, match="SIGKILL") as failed:  # noqa: PT012 - the reading fails
        async with Decoding(server, request, LIMITS, slabs) as decoding:
            find_server().kill()
            await count_frames(decoding)
    frames = [await decoding_anew(server, request, slabs) for _ in range(2)]
    await server.close()

    assert failed.value.reason == "decoder_crashed"
    assert frames == [240, 240]
    assert [name for name, _ in told] == ["decoder.server_restarted"]
    assert server.restarts == 1
    slabs.close()


async def test_the_server_hangs(
    tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for without end, no decoder outlives it, and a new one takes its place."""
    monkeypatch.setattr(forkserver, "_ANSWER_SECONDS", 1)
    request, slabs = make_request(make_long_video(tmp_path)), make_slabs()
    async with Decoding(server, request, LIMITS, slabs) as decoding:
        orphan = os.pidfd_open(decoding.pid)
        find_server().suspend()
        frames = [await decoding_anew(server, request, slabs)]
    ended, _, _ = select.select([orphan], [], [], 30)
    os.close(orphan)

    async with Decoding(server, request, LIMITS, slabs):
        find_server().suspend()  # and is missed when its decoder is to be ended
    frames.append(await decoding_anew(server, request, slabs))

    assert ended == [orphan]
    assert frames == [240, 240]
    slabs.close()


async def test_an_end_by_itself_and_by_us(tmp_path: Path, server: ForkServer) -> None:
    """A decoder that ends at the very moment at which it is ended costs nobody anything."""
    request, slabs = make_request(make_long_video(tmp_path)), make_slabs()

    async with Decoding(server, request, LIMITS, slabs) as decoding:
        found = find_server()
        found.suspend()  # it hears of both at once
        decoder = os.pidfd_open(decoding.pid)
        os.kill(decoding.pid, signal.SIGKILL)
        select.select([decoder], [], [], 30)
        os.close(decoder)
        asyncio.get_running_loop().call_later(0.5, found.resume)
    frames = await decoding_anew(server, request, slabs)

    assert frames == 240
    assert find_server() == found
    slabs.close()


async def test_no_room_for_another_process(
    tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no fault of the video's, nor does it cost the server."""
    full = "import os\ndef fork(): raise OSError(11, 'no room')\nos.fork = fork\n"
    monkeypatch.setattr(child, "_BOOTSTRAP", full + child._BOOTSTRAP)
    request, slabs = make_request(make_video(tmp_path / "v.mp4")), make_slabs()
    await server.start()
    found = find_server()

    for _ in range(2):
        with pytest.raises(DecodersUnavailableError, match="no decoder could be forked"):
            await decoding_anew(server, request, slabs)

    assert find_server() == found
    slabs.close()


async def test_it_does_not_start(
    tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is in the error, from what it has written."""
    (tmp_path / "inference").mkdir()
    broken = "raise ImportError('libav is not there')"
    (tmp_path / "inference" / "__init__.py").write_text(broken)
    monkeypatch.setattr("inference.child._ROOT", tmp_path)

    for _ in range(2):
        with pytest.raises(DecodersUnavailableError, match="libav is not there"):
            await server.start()


async def test_an_exit_status_is_its_own(tmp_path: Path, server: ForkServer) -> None:
    """A decoder that was ended by a signal says by which, also when it is ended again."""
    request, slabs = make_request(make_long_video(tmp_path)), make_slabs()
    async with Decoding(server, request, LIMITS, slabs) as decoding:
        os.kill(decoding.pid, signal.SIGUSR1)

        status = await decoding._process.wait()
        ended = await decoding._process.end()

    assert (status, ended) == (-signal.SIGUSR1, -signal.SIGUSR1)
    slabs.close()


async def test_no_start_after_the_end(tmp_path: Path, server: ForkServer) -> None:
    """Work that is cancelled late must not leave a server behind that nobody ends."""
    request, slabs = make_request(make_video(tmp_path / "v.mp4")), make_slabs()
    await server.start()
    await server.close()

    with pytest.raises(DecodersUnavailableError, match="closed"):
        await decoding_anew(server, request, slabs)

    assert server.restarts == 0
    slabs.close()


async def test_a_failure_after_the_end(
    tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was asking when the server was closed hears of that, not of its log, which is gone."""
    request, slabs = make_request(make_video(tmp_path / "v.mp4")), make_slabs()
    asked, read_pid = asyncio.Event(), forkserver._read_pid

    async def noted(*arguments: Any) -> int:
        asked.set()
        return await read_pid(*arguments)

    monkeypatch.setattr(forkserver, "_read_pid", noted)
    await server.start()
    find_server().suspend()
    asking = asyncio.create_task(decoding_anew(server, request, slabs))
    await asked.wait()
    former = server._server
    await server.close()

    with pytest.raises(DecodersUnavailableError, match="closed"):
        await asking
    assert former is not None
    assert "no output" in str(former.failure("it is asked late"))
    slabs.close()


async def test_a_decoder_that_cannot_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits for a broken disk: it is let be, and costs neither server nor others."""
    helpless = "import os\nos.kill = os.killpg = lambda *_: None\n"
    monkeypatch.setattr(child, "_BOOTSTRAP", helpless + child._BOOTSTRAP)
    monkeypatch.setattr(forkserver, "_ANSWER_SECONDS", 1)
    request, slabs, more = make_request(make_long_video(tmp_path)), make_slabs(), make_slabs()
    told: list[tuple[str, str]] = []

    async with (
        ForkServer(lambda *trouble: told.append(trouble)) as server,
        Decoding(server, request, LIMITS, slabs) as neighbour,
    ):
        async with Decoding(server, request, LIMITS, more) as decoding:
            psutil.Process(decoding.pid).suspend()
            found = find_server()
        frames = await count_frames(neighbour)
        is_same = find_server() == found
        neighbour_status = await neighbour._process.wait()

    assert (frames, neighbour_status) == (240, 0)
    assert is_same
    assert told == [("decoder.stuck", f"process {decoding.pid} was killed and does not end")]
    assert server.restarts == 0
    slabs.close()
    more.close()


def test_a_question_whose_asker_has_gone() -> None:
    """Nobody reads the answer, or descriptors were lost on the way: the server goes on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    start = "import sys; from inference.forkserver_main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", start, str(os.getpid()), str(theirs.fileno())]
    with (
        ours,
        subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()]) as server,
    ):
        theirs.close()
        assert server.stdout is not None
        server.stdout.readline()
        gone, deaf = os.pipe()
        os.close(gone)
        answer, question = os.pipe()

        socket.send_fds(ours, [b"?"], [deaf])
        socket.send_fds(ours, [b"{}"], [deaf, deaf])
        socket.send_fds(ours, [b"?"], [question])
        os.close(question)

        assert os.read(answer, 16) == b"yes\n"
        os.close(answer)
        os.close(deaf)
        ours.close()
        assert server.wait(30) == 0

"""The decoder's process: what it may cost, what it may know, and that it leaves nothing behind."""

import asyncio
import os
import select
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.factories_video import (
    decode_all,
    find_decoders,
    make_request,
    make_slabs,
    make_video,
    open_decoder,
)

from inference.decode import Decoding, Limits
from inference.errors import DecoderFailedError, VideoRejectedError
from inference.frames import FrameBatch, Gap

LIMITS = Limits(3600)
SOURCE = Path(__file__).parents[2] / "src"


def make_long_video(directory: Path) -> Path:
    """A video with more frames than a decoder may hand over unasked."""
    return make_video(directory / "long.mp4", frames=240)


async def next_batch(decoding: Decoding) -> FrameBatch:
    """The next batch; the file has no gaps."""
    item = await anext(aiter(decoding))
    assert not isinstance(item, Gap)
    return item


async def fail(decoding: Decoding) -> DecoderFailedError:
    """Read on until the decoder is found to have failed."""
    try:
        async for item in decoding:
            if not isinstance(item, Gap):
                decoding.release(item)
    except DecoderFailedError as error:
        return error
    pytest.fail("the decoder got to its end")


async def test_hang(tmp_path: Path) -> None:
    """A decoder that says nothing more is ended at the stall limit."""
    path = make_long_video(tmp_path)
    slabs = make_slabs()
    limits = Limits(3600, stall_seconds=1)
    async with open_decoder(make_request(path), limits, slabs) as decoding:
        os.kill(decoding.pid, signal.SIGSTOP)

        error = await fail(decoding)

    assert error.reason == "decoder_timeout"
    assert find_decoders(path) == []
    slabs.close()


async def test_takes_too_long(tmp_path: Path) -> None:
    """A decoder that is alive but never done is ended at the total limit."""
    path = make_long_video(tmp_path)
    slabs = make_slabs()
    limits = Limits(3600, stall_seconds=60, total_seconds=1)
    async with open_decoder(make_request(path), limits, slabs) as decoding:
        os.kill(decoding.pid, signal.SIGSTOP)

        error = await fail(decoding)

    assert error.reason == "decoder_timeout"
    assert "more than" in error.detail
    slabs.close()


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
async def test_crash(tmp_path: Path, kind: signal.Signals) -> None:
    """A decoder that dies of a signal has crashed, and the signal is named."""
    path = make_long_video(tmp_path)
    slabs = make_slabs()
    async with open_decoder(make_request(path), LIMITS, slabs) as decoding:
        os.kill(decoding.pid, kind)

        error = await fail(decoding)

    assert error.reason == "decoder_crashed"
    assert kind.name in error.detail
    slabs.close()


@pytest.mark.parametrize("memory_bytes", [60 << 20, 230 << 20])
async def test_eats_memory(tmp_path: Path, memory_bytes: int) -> None:
    """A decoder that runs into its memory limit is told apart from one that crashed.

    The smaller limit strikes while the code is loaded, the larger one while a picture is decoded.
    """
    path = make_video(tmp_path / "v.mp4", frames=8, width=3840, height=2160)
    limits = Limits(3600, memory_bytes=memory_bytes)

    with pytest.raises(DecoderFailedError) as caught:
        await decode_all(path, limits=limits, tolerant=True)

    assert caught.value.reason == "decoder_out_of_memory"


async def test_too_long_a_video(tmp_path: Path) -> None:
    """A refusal of the probe comes out as it was made, in the decoder's process."""
    path = make_video(tmp_path / "v.mp4")

    with pytest.raises(VideoRejectedError) as caught:
        await decode_all(path, limits=Limits(1))

    assert caught.value.reason == "too_long"


async def test_back_pressure(tmp_path: Path) -> None:
    """With all slabs held the decoder waits, overwrites nothing, and goes on after a release."""
    path = make_long_video(tmp_path)
    slabs = make_slabs(count=3)
    limits = Limits(3600, stall_seconds=1)
    async with open_decoder(make_request(path), limits, slabs) as decoding:
        held = [await next_batch(decoding) for _ in range(3)]
        copies = [batch.pixels.copy() for batch in held]
        waits = psutil.Process(decoding.pid)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await next_batch(decoding)

        decoding.release(held[0])
        following = await next_batch(decoding)

    assert {batch.slab for batch in held} == {0, 1, 2}
    assert following.slab == held[0].slab
    assert following.pts_ms[0] > held[2].pts_ms[-1]
    assert all(map(np.array_equal, [b.pixels for b in held[1:]], copies[1:]))
    assert not waits.is_running()
    slabs.close()


async def test_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads hostile files has no credential and no address to use one at."""
    for name in ("AWS_SECRET_ACCESS_KEY", "POLLER_DATABASE_URL", "DATABASE_URL", "TOKEN"):
        monkeypatch.setenv(name, "hush-hush")
    slabs = make_slabs()

    async with open_decoder(make_request(make_long_video(tmp_path)), LIMITS, slabs) as decoding:
        environment = Path(f"/proc/{decoding.pid}/environ").read_bytes()
        descriptors = {str(link.readlink()) for link in Path(f"/proc/{decoding.pid}/fd").iterdir()}

    assert b"hush" not in environment
    assert b"AWS" not in environment
    assert not any("socket" in target for target in descriptors)
    slabs.close()


async def test_directory_holds_no_code(tmp_path: Path) -> None:
    """A file beside the video that is named like a module is not imported."""
    path = make_video(tmp_path / "v.mp4")
    for name in ("numpy", "json", "av", "decord", "inference"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)\n")

    decoded = await decode_all(path)

    assert len(decoded.times_ms) == 48


async def test_leaves_nothing_behind(tmp_path: Path) -> None:
    """After success, failure and cancellation: no process, no descriptor, no file."""
    path = make_long_video(tmp_path)
    await decode_all(path)
    before = set(Path("/proc/self/fd").iterdir())
    slabs = make_slabs()

    async def decode_and_hang() -> None:
        async with open_decoder(make_request(path), LIMITS, slabs) as decoding:
            started.set()
            await next_batch(decoding)
            await asyncio.Event().wait()

    for _ in range(3):
        started = asyncio.Event()
        task = asyncio.create_task(decode_and_hang())
        await asyncio.wait_for(started.wait(), 30)
        task.cancel()
        await asyncio.wait([task])
    with pytest.raises(VideoRejectedError):
        await decode_all(path, limits=Limits(1))
    slabs.close()

    assert find_decoders(path) == []
    assert set(Path("/proc/self/fd").iterdir()) <= before
    assert list(tmp_path.iterdir()) == [path]


async def test_cancelled_while_it_starts(tmp_path: Path) -> None:
    """Cancelling before the probe has answered ends the process, too."""
    path = make_long_video(tmp_path)
    slabs = make_slabs()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), open_decoder(make_request(path), LIMITS, slabs):
            await asyncio.Event().wait()

    assert find_decoders(path) == []
    slabs.close()


PARENT = """
import asyncio, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from inference.decode import Decoding, Limits, Request
from inference.forkserver import ForkServer
from inference.slabs import Slabs

async def main():
    request = Request(Path(sys.argv[2]), None, 8, 1, tolerant=False)
    slabs = Slabs.create(3, 8 * 256 * 256 * 3)
    async with ForkServer() as server, Decoding(server, request, Limits(3600), slabs) as decoding:
        print(decoding.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_parent_is_killed(tmp_path: Path) -> None:
    """A decoder whose service is killed dies with it, even one that hangs."""
    path = make_long_video(tmp_path)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(SOURCE), str(path)), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    decoder = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)

    parent.kill()
    await parent.wait()
    ended, _, _ = select.select([decoder], [], [], 30)

    assert ended == [decoder]
    os.close(decoder)


async def test_neighbour_does_not_notice(tmp_path: Path) -> None:
    """While one decoder hangs and another crashes, a third delivers every frame."""
    (tmp_path / "other").mkdir()
    path, other = make_long_video(tmp_path), make_long_video(tmp_path / "other")
    slabs = make_slabs()
    limits = Limits(3600, stall_seconds=2)
    async with (
        open_decoder(make_request(path), limits, slabs) as hanging,
        open_decoder(make_request(path), limits, make_slabs()) as crashing,
    ):
        os.kill(hanging.pid, signal.SIGSTOP)
        os.kill(crashing.pid, signal.SIGSEGV)

        stalled, crashed, decoded = await asyncio.gather(
            fail(hanging), fail(crashing), decode_all(other)
        )

    assert (stalled.reason, crashed.reason) == ("decoder_timeout", "decoder_crashed")
    assert len(decoded.times_ms) == 240
    slabs.close()


async def test_control_stays_small() -> None:
    """The service's process imports neither torch nor any code that parses videos."""
    script = (
        "import sys; sys.path.append(sys.argv[1]); import inference.analyze;"
        "print(sorted({'torch', 'av', 'decord'} & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(SOURCE)), stdout=asyncio.subprocess.PIPE
    )

    output, _ = await asyncio.wait_for(process.communicate(), 60)

    assert output == b"[]\n"

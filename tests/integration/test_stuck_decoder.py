"""A decoder that does nothing any more, or burns its core in C: what it costs, and for how long."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.factories_video import make_request, make_slabs, make_video

from inference import child
from inference.decode import Decoding, Limits
from inference.errors import DecoderFailedError
from inference.forkserver import ForkServer
from inference.frames import Gap

BURN = """
import sys; sys.path.insert(0, sys.argv[1])
import os
from inference.decoder_main import Outbox
del sys.path[0]
put = Outbox.put
Outbox.put = lambda *given: (
    sum(iter(int, 1)) if os.getcwd().endswith("burns") else put(*given)
)
"""
"""A loop in C that never ends, hears no signal that Python would see to, and holds the GIL."""


def make_long_video(directory: Path) -> Path:
    """A video with more frames than a decoder may hand over unasked."""
    directory.mkdir()
    return make_video(directory / "long.mp4", frames=240)


def stop(decoder: psutil.Process) -> None:
    """Freeze it."""
    os.kill(decoder.pid, signal.SIGSTOP)


def see_it_burn(decoder: psutil.Process) -> None:
    """Wait until it has used more of its core than all its frames would take."""
    start = decoder.cpu_times().user
    while decoder.cpu_times().user < start + 0.5:
        time.sleep(0.01)


async def read_all(decoding: Decoding) -> int:
    """Count the frames."""
    frames = 0
    async for item in decoding:
        assert not isinstance(item, Gap)
        frames += len(item.pts_ms)
        decoding.release(item)
    return frames


@pytest.mark.parametrize(
    ("kind", "stick"), [("stops", stop), ("burns", see_it_burn)], ids=["stopped", "burning"]
)
async def test_a_stuck_decoder_costs_its_core_until_its_deadline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    stick: Callable[[psutil.Process], None],
) -> None:
    """It gives way to others while it lives; with its error it is gone, and the server is well."""
    monkeypatch.setattr(child, "_BOOTSTRAP", BURN + child._BOOTSTRAP)
    stuck, other = (make_request(make_long_video(tmp_path / name)) for name in (kind, "other"))
    slabs, limits = make_slabs(), Limits(3600, stall_seconds=1)

    async with ForkServer() as server:
        with pytest.raises(DecoderFailedError) as failed:  # noqa: PT012 - the reading fails
            async with Decoding(server, stuck, limits, slabs) as decoding:
                decoder = psutil.Process(decoding.pid)
                niceness = decoder.nice()
                stick(decoder)
                await read_all(decoding)
        is_there = decoder.is_running()
        status = await decoding._process.wait()
        async with Decoding(server, other, Limits(3600), slabs) as decoding:
            frames = await read_all(decoding)

    assert failed.value.reason == "decoder_timeout"
    assert niceness > min(18, os.getpriority(os.PRIO_PROCESS, 0))
    assert not is_there
    assert status == -signal.SIGKILL
    assert (frames, server.restarts) == (240, 0)
    slabs.close()

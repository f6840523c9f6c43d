"""What the decoder's time limits mean: one for a silence, one for all of them together."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.factories_video import make_request, make_slabs, make_video, open_decoder

from inference.decode import Decoding, Limits
from inference.errors import DecoderFailedError
from inference.frames import Gap


def resume(decoding: Decoding) -> None:
    """Let a stopped decoder go on, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(decoding.pid, signal.SIGCONT)


async def test_the_total_limit_ends_a_silence(tmp_path: Path) -> None:
    """It does not wait for the stall limit, however long that is."""
    slabs = make_slabs()
    request = make_request(make_video(tmp_path / "v.mp4", frames=240))
    limits = Limits(3600, stall_seconds=60, total_seconds=2)

    with pytest.raises(DecoderFailedError) as ended:  # noqa: PT012 - the iteration is what fails
        async with asyncio.timeout(20), open_decoder(request, limits, slabs) as decoding:
            os.kill(decoding.pid, signal.SIGSTOP)
            async for item in decoding:
                assert not isinstance(item, Gap)
                decoding.release(item)

    assert ended.value.reason == "decoder_timeout"
    slabs.close()


async def test_short_silences_add_up(tmp_path: Path) -> None:
    """A decoder that pauses again and again, never for long, is ended at the total limit."""
    slabs = make_slabs()
    request = make_request(make_video(tmp_path / "v.mp4", frames=480))
    limits = Limits(3600, stall_seconds=60, total_seconds=3)
    loop = asyncio.get_running_loop()

    with pytest.raises(DecoderFailedError) as ended:  # noqa: PT012 - the iteration is what fails
        async with open_decoder(request, limits, slabs) as decoding:
            async for item in decoding:
                assert not isinstance(item, Gap)
                decoding.release(item)
                os.kill(decoding.pid, signal.SIGSTOP)
                loop.call_later(0.5, resume, decoding)

    assert ended.value.reason == "decoder_timeout"
    assert "more than" in ended.value.detail
    slabs.close()

"""One video from file to results: decode, device, timeline."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from inference.decode import Decoding, Limits, Request
from inference.device import Device, DeviceVideo
from inference.errors import DecoderFailedError
from inference.events import Results
from inference.frames import FrameBatch, Gap, VideoInfo
from inference.slabs import Slabs
from inference.timeline import Timeline

__all__ = ["Analysis", "Analyzer", "Limits"]

_SLABS = 3
"""One is inferred, one is filled, one waits: more only adds memory."""
_FRAME_BYTES = 256 * 256 * 3
"""The largest working frame."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analysis found and what it took."""

    info: VideoInfo
    results: Results
    frames_decoded: int
    frames_analyzed: int
    decode_seconds: float
    """Time the decoder worked, its waits for the device left out."""
    infer_seconds: float
    """Time spent waiting for the device; overlaps with decoding."""


Progress = Callable[[float, int], None]
"""Called with the fraction done, 0..1, and the number of frames in the batch just inferred."""


class Analyzer:
    """Analyses files, any number at a time; they share the device and nothing else."""

    def __init__(
        self,
        device: Device,
        *,
        sample_fps: float | None,
        limits: Limits,
        batch_size: int,
        decoder_threads: int = 1,
    ) -> None:
        self._device = device
        self._sample_fps = sample_fps
        self._limits = limits
        self._batch_size = batch_size
        self._decoder_threads = decoder_threads

    async def start(self) -> None:
        """Start the device now, rather than with the first video.

        Raises:
            DeviceFaultError: it does not come up.
        """
        await self._device.start()

    async def analyze(
        self, path: Path, on_progress: Progress, on_alive: Callable[[], None] = lambda: None
    ) -> Analysis:
        """Analyse one local file. Cancelling kills its decoder and frees its memory.

        `on_alive` is called when the decoder shows that it works, between batches too.
        A decoder that fails gets a second chance from the start, with the tolerant backend.

        Raises:
            VideoRejectedError: the file cannot be analysed, now or later.
            DecoderFailedError: both attempts crashed, hung or ran out of memory.
            DeviceFaultError: the device process failed; the video is not to blame.
        """
        try:
            return await self._attempt(path, on_progress, on_alive)
        except DecoderFailedError:
            return await self._attempt(path, on_progress, on_alive, tolerant=True)

    async def _attempt(
        self,
        path: Path,
        on_progress: Progress,
        on_alive: Callable[[], None],
        *,
        tolerant: bool = False,
    ) -> Analysis:
        request = Request(path, self._sample_fps, self._batch_size, self._decoder_threads, tolerant)
        async with AsyncExitStack() as stack:
            slabs = Slabs.create(_SLABS, self._batch_size * _FRAME_BYTES)
            stack.callback(slabs.close)
            decoding = await stack.enter_async_context(
                Decoding(request, self._limits, slabs, on_alive)
            )
            video = await stack.enter_async_context(self._device.open(slabs))
            timeline = Timeline(source_fps=decoding.opened.info.fps, sample_fps=self._sample_fps)
            return await _Run(decoding, video, timeline, on_progress).complete()


@dataclass(slots=True)
class _Run:
    """One attempt: while a batch is inferred, the decoder fills the other slabs."""

    decoding: Decoding
    video: DeviceVideo
    timeline: Timeline
    on_progress: Progress
    frames_analyzed: int = 0
    infer_seconds: float = 0.0
    start_ms: float | None = None

    async def complete(self) -> Analysis:
        async for item in self.decoding:
            if isinstance(item, Gap):
                self.timeline.gap(item)
            else:
                await self._infer(item)
        finished = self.decoding.finished
        if finished is None:
            raise AssertionError("a decoding that ends has finished")
        info = self.decoding.opened.info
        return Analysis(
            info=info,
            results=self.timeline.finish(info, finished.end_ms),
            frames_decoded=finished.decoded,
            frames_analyzed=self.frames_analyzed,
            decode_seconds=finished.seconds,
            infer_seconds=self.infer_seconds,
        )

    async def _infer(self, batch: FrameBatch) -> None:
        start = time.monotonic()
        features = await self.video.infer(batch)
        self.infer_seconds += time.monotonic() - start
        self.decoding.release(batch)
        self.timeline.push(batch.pts_ms, features)
        self.frames_analyzed += len(batch.pts_ms)
        self.on_progress(self._fraction(batch), len(batch.pts_ms))

    def _fraction(self, batch: FrameBatch) -> float:
        if self.start_ms is None:
            self.start_ms = float(batch.pts_ms[0])
        length_ms = self.decoding.opened.info.duration_seconds * 1000
        return min(1.0, (float(batch.pts_ms[-1]) - self.start_ms) / max(length_ms, 1.0))

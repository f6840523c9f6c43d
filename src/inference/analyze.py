"""One video from file to results: decode, device, timeline."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from inference.checkpoint import Journal, Measured, NoJournal, Past, read_past
from inference.decode import Decoding, Limits, Request
from inference.device import Device, DeviceVideo
from inference.errors import DecoderFailedError, DeviceFaultError
from inference.events import Results, pipeline_of
from inference.forkserver import ForkServer
from inference.frames import LONG_SIDE, FrameBatch, Gap, VideoInfo, fit
from inference.manifest import Manifest
from inference.people import TrackVectors
from inference.persons import Persons
from inference.recording import Recording
from inference.refining import Refined, Refiner
from inference.sampling import AUTO_FPS, Rate
from inference.slabs import Slabs
from inference.timeline import Timeline
from inference.tracks import Tracker

__all__ = ["Analysis", "Analyzer", "Cost", "Limits"]

SLABS = 3
"""One is inferred, one is filled, one waits: more only adds memory."""
SLAB_BYTES = 32 << 20
"""Of large frames, fewer go into a slab."""
LEAVE_SECONDS = 3.0
"""How long a cancelled analysis may take for its last checkpoint."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the run that ended with the results cost; what runs before it cost is not known."""

    cpu_seconds: float
    """Of the decoder that read the file to its end."""
    device_seconds: float
    """Of the device; of what it did for several videos at once, this one's share."""
    from_ms: float | None = None
    """All before this time was measured by earlier runs; None: nothing was."""


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
    cost: Cost
    invalid: int = 0
    """What the models of the bundle gave that is no number, or has no direction or area."""
    crowded: int = 0
    """Persons left out of frames with too many."""
    unrefined: str = ""
    """Why not all cuts were looked at again, if a decoder failed at that."""
    retried: str = ""
    """How its first decoder failed, if the tolerant one did the work."""


Progress = Callable[[float, int], None]
"""Called with the fraction done, 0..1, and the number of frames in the batch just inferred."""


class Analyzer:
    """Analyses files, any number at a time; they share the device and nothing else."""

    def __init__(
        self,
        device: Device,
        server: ForkServer,
        *,
        sample_fps: Rate,
        limits: Limits,
        batch_size: int,
        decoder_threads: int = 1,
        checkpoint_seconds: float = 60.0,
        manifest: Manifest | None = None,
    ) -> None:
        """`batch_size` is of frames that go to the device at once, at most.

        `checkpoint_seconds` is how much work may have to be done again after a disturbance.

        `manifest` is of the bundle that the device has loaded, if it has any.
        """
        self._manifest = manifest
        self._device = device
        self._server = server
        self._sample_fps = sample_fps
        self._limits = limits
        self._frame_side = LONG_SIDE if manifest is None else manifest.frame_side
        self._frame_bytes = self._frame_side**2 * 3
        self._batch_size = min(batch_size, SLAB_BYTES // self._frame_bytes)
        self._decoder_threads = decoder_threads
        self._checkpoint_seconds = checkpoint_seconds

    async def start(self) -> None:
        """Start the device and the fork server now, rather than with the first video.

        Raises:
            DeviceFaultError: the device does not come up.
            DecodersUnavailableError: the fork server does not.
        """
        await self._device.start()
        await self._server.start()

    async def analyze(
        self,
        path: Path,
        on_progress: Progress,
        on_alive: Callable[[], None] = lambda: None,
        journal: Journal | None = None,
    ) -> Analysis:
        """Analyse one local file, or the rest of it from the journal's last checkpoint on.

        `on_alive` is called when the decoder shows that it works, between batches too.
        A decoder that fails gets a second chance with the tolerant backend.
        Cancelling kills the decoder and frees its memory, after a last checkpoint.

        Raises:
            VideoRejectedError: the file cannot be analysed, now or later.
            DecoderFailedError: both attempts crashed, hung or ran out of memory.
            DeviceFaultError: the device process failed; the video is not to blame.
            DecodersUnavailableError: no decoder can be started; likewise.
        """
        journal = journal or NoJournal()
        try:
            return await self._attempt(path, on_progress, on_alive, journal)
        except DecoderFailedError as error:
            retried = str(error)
        analysis = await self._attempt(path, on_progress, on_alive, journal, tolerant=True)
        return replace(analysis, retried=retried)

    async def _attempt(
        self,
        path: Path,
        on_progress: Progress,
        on_alive: Callable[[], None],
        journal: Journal,
        *,
        tolerant: bool = False,
    ) -> Analysis:
        past = await read_past(journal, self._settings)
        try:
            return await self._run(path, on_progress, on_alive, journal, past, tolerant=tolerant)
        except _MisfitError:
            past = Past()
        return await self._run(path, on_progress, on_alive, journal, past, tolerant=tolerant)

    async def _run(
        self,
        path: Path,
        on_progress: Progress,
        on_alive: Callable[[], None],
        journal: Journal,
        past: Past,
        *,
        tolerant: bool,
    ) -> Analysis:
        # A decoder that failed may have failed while it chose what to decode.
        is_plain = tolerant and self._sample_fps == "auto"
        request = Request(
            path,
            AUTO_FPS if is_plain else self._sample_fps,
            self._batch_size,
            self._decoder_threads,
            tolerant or past.tolerant,
            self._frame_side,
            past.position_ms,
        )
        async with AsyncExitStack() as stack:
            slabs = Slabs.create(SLABS, self._batch_size * self._frame_bytes)
            stack.callback(slabs.close)
            decoding = await stack.enter_async_context(
                Decoding(self._server, request, self._limits, slabs, on_alive)
            )
            opened = decoding.opened
            if not past.fits(*fit(opened.width, opened.height)):
                raise _MisfitError
            video = await stack.enter_async_context(self._device.open(slabs, past.carry))
            timeline = self._timeline(opened.info.fps)
            recording = Recording(journal, self._settings, self._checkpoint_seconds, past.count)
            recording.stretch.tolerant = request.tolerant or opened.backend == "tolerant"
            run = _Run(decoding, video, timeline, recording, on_progress, past.position_ms)
            await past.repeat(run.take)
            await run.complete()
        # The device is not held any more: others would wait for a video that brings no frames.
        refiner = Refiner(self._server, self._limits)
        length_ms = decoding.opened.info.duration_seconds * 1000
        refined = await refiner.look(path, timeline.cuts(), length_ms, on_alive)
        return run.conclude(refined)

    def _timeline(self, source_fps: float) -> Timeline:
        said = self._manifest
        persons, persons_fps = None, None
        if said is not None and said.detector is not None:
            tracker = Tracker(threshold=said.detector.threshold, **said.tracking.model_dump())
            persons, persons_fps = Persons(tracker, said.title, said.stretched), said.detector.fps
        return Timeline(
            source_fps=source_fps,
            sample_fps=self._sample_fps,
            model=self._model,
            persons=persons,
            persons_fps=persons_fps,
        )

    @property
    def _model(self) -> str:
        return "builtin" if self._manifest is None else self._manifest.title

    @property
    def _settings(self) -> str:
        """What must be the same for one run to go on from another's checkpoint."""
        looks = self._manifest and self._manifest.detector and self._manifest.detector.fps
        frames = f"{self._sample_fps} fps of {self._frame_side} pixels, {looks} looks"
        return f"{pipeline_of(self._model)}, {frames}, parts-4"


class _MisfitError(Exception):
    """The past is of frames of another size, or of other persons, whoever wrote it down."""


@dataclass(slots=True)
class _Run:
    """One attempt: while a batch is inferred, the decoder fills the other slabs."""

    decoding: Decoding
    video: DeviceVideo
    timeline: Timeline
    recording: Recording
    on_progress: Progress
    from_ms: float | None
    frames_analyzed: int = 0
    device_seconds: float = 0.0
    infer_seconds: float = 0.0
    start_ms: float | None = None
    step: asyncio.Task[None] | None = None

    async def complete(self) -> None:
        try:
            await self._go_on()
        except asyncio.CancelledError:
            await self._leave()
            raise

    def conclude(self, refined: Refined) -> Analysis:
        finished = self.decoding.finished
        if finished is None:
            raise AssertionError("a decoding that ends has finished")
        info = self.decoding.opened.info
        return Analysis(
            info=info,
            results=self.timeline.finish(finished.end_ms, refined.changes),
            frames_decoded=finished.decoded,
            frames_analyzed=self.frames_analyzed,
            decode_seconds=finished.seconds,
            infer_seconds=self.infer_seconds,
            cost=Cost(
                finished.cpu_seconds + refined.cpu_seconds, self.device_seconds, self.from_ms
            ),
            invalid=self.timeline.invalid,
            crowded=self.timeline.crowded,
            unrefined=refined.fault,
        )

    async def _go_on(self) -> None:
        async for item in self.decoding:
            if isinstance(item, Gap):
                self._note(item)
                continue
            # Cut off, the device would be a batch ahead of what is known here.
            self.step = asyncio.create_task(self._infer(item), name="infer")
            await asyncio.shield(self.step)
            if self.recording.is_due:
                await self.recording.cut(self.video, self.timeline)

    async def _leave(self) -> None:
        """Write a last checkpoint, if that can be done at once."""
        with suppress(TimeoutError, DeviceFaultError):  # the one before must do
            async with asyncio.timeout(LEAVE_SECONDS):
                if self.step is not None:
                    await self.step
                await self.recording.cut(self.video, self.timeline)

    async def _infer(self, batch: FrameBatch) -> None:
        start = time.monotonic()
        inferred = await self.video.infer(batch, self.timeline.looks_at(batch.pts_ms))
        self.infer_seconds += time.monotonic() - start
        self.device_seconds += inferred.seconds
        self.decoding.release(batch)
        self._note(Measured(batch.pts_ms, inferred.features, inferred.sights))
        self.on_progress(self._fraction(batch), len(batch.pts_ms))

    def _note(self, item: Measured | Gap) -> None:
        self.take(item)
        self.recording.add(item)

    def take(self, item: Measured | Gap | TrackVectors) -> None:
        """Give to the timeline what was measured, now or by an earlier run."""
        if isinstance(item, Gap):
            self.timeline.gap(item)
            return
        if isinstance(item, TrackVectors):
            if not self.timeline.restore(item):
                raise _MisfitError
            return
        if self.start_ms is None:
            self.start_ms = float(item.pts_ms[0])
        self.timeline.push(*item)
        self.frames_analyzed += len(item.pts_ms)

    def _fraction(self, batch: FrameBatch) -> float:
        length_ms = self.decoding.opened.info.duration_seconds * 1000
        return min(1.0, (float(batch.pts_ms[-1]) - (self.start_ms or 0.0)) / max(length_ms, 1.0))

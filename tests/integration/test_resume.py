"""An analysis goes on where another one stopped, and finds the same."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
import pytest
from tests.factories_video import X264, corrupt_packets, make_video, run_ffmpeg
from tests.unit.inference.test_checkpoint import make_carry

from inference.analyze import Analysis, Analyzer, Limits
from inference.checkpoint import Part
from inference.device import Device
from inference.forkserver import ForkServer
from inference.samples import make_samples
from inference.sampling import Rate
from inference.wire import pack


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    """A device on the CPU that ends with the test."""
    device = Device("cpu", threads=1)
    yield device
    await device.close()


@dataclass(slots=True)
class Notebook:
    """A journal in memory."""

    parts: list[Part] = field(default_factory=list)
    is_closed: bool = False

    async def load(self) -> Sequence[Part]:
        """Return what was kept."""
        return self.parts

    async def save(self, part: Part) -> bool:
        """Keep a part as the real one does, unless closed."""
        if self.is_closed:
            return False
        before = [replace(each, carry=None) for each in self.parts[: part.number]]
        self.parts = [*before, part]
        return True


@dataclass(slots=True)
class Attempt:
    """One run that ends by itself, or is cancelled when so much is done."""

    path: Path
    device: Device
    server: ForkServer
    notebook: Notebook
    sample_fps: Rate
    interval_seconds: float = 3600.0
    opens_after: int | None = None
    """Frames after which the journal is opened."""
    stall_seconds: float = 30.0
    batch_size: int = 8
    frames: int = 0

    async def complete(self) -> Analysis:
        """Run to the end."""
        analyzer = Analyzer(
            self.device,
            self.server,
            sample_fps=self.sample_fps,
            limits=Limits(3600, stall_seconds=self.stall_seconds),
            batch_size=self.batch_size,
            checkpoint_seconds=self.interval_seconds,
        )
        return await analyzer.analyze(self.path, self._count, journal=self.notebook)

    async def stop_at(self, fraction: float) -> None:
        """Run until so much is done, then cancel."""
        reached = asyncio.Event()

        def on_progress(done: float, frames: int) -> None:
            self._count(done, frames)
            if done >= fraction:
                reached.set()

        analyzer = Analyzer(
            self.device,
            self.server,
            sample_fps=self.sample_fps,
            limits=Limits(3600, stall_seconds=self.stall_seconds),
            batch_size=self.batch_size,
            checkpoint_seconds=self.interval_seconds,
        )
        task = asyncio.create_task(analyzer.analyze(self.path, on_progress, journal=self.notebook))
        await asyncio.wait(
            [task, asyncio.create_task(reached.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def _count(self, _fraction: float, frames: int) -> None:
        self.frames += frames
        if self.opens_after is not None and self.frames > self.opens_after:
            self.notebook.is_closed = False


def assert_same(resumed: Analysis, whole: Analysis) -> None:
    """The rows that would be stored are equal."""
    assert resumed.results.events == whole.results.events
    assert [(e.kind, e.start_ms, e.end_ms) for e in resumed.results.embeddings] == [
        (e.kind, e.start_ms, e.end_ms) for e in whole.results.embeddings
    ]
    assert all(
        np.array_equal(ours.vector, theirs.vector)
        for ours, theirs in zip(resumed.results.embeddings, whole.results.embeddings, strict=True)
    )
    assert resumed.info == whole.info
    assert resumed.frames_analyzed == whole.frames_analyzed
    assert resumed.frames_decoded == whole.frames_decoded


VIDEOS = {
    "sparse": {"options": {**X264, "g": "48"}},
    "open": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=24:open-gop=1"},
    },
    "vp9": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "48"}},
}


@pytest.mark.parametrize("sample_fps", [5.0, None])
@pytest.mark.parametrize("kind", VIDEOS)
async def test_interrupted(
    tmp_path: Path, device: Device, server: ForkServer, kind: str, sample_fps: float | None
) -> None:
    """Stopped twice, an analysis ends with the rows of an undisturbed one, and repeats little."""
    name = "v.webm" if kind == "vp9" else "v.mp4"
    path = make_video(tmp_path / name, frames=720, **VIDEOS[kind])  # type: ignore[arg-type] # sets of arguments
    whole = await Attempt(path, device, server, Notebook(), sample_fps).complete()
    notebook = Notebook()

    await Attempt(path, device, server, notebook, sample_fps).stop_at(0.3)
    await Attempt(path, device, server, notebook, sample_fps).stop_at(0.7)
    last = Attempt(path, device, server, notebook, sample_fps)
    resumed = await last.complete()

    assert_same(resumed, whole)
    assert last.frames <= 0.35 * whole.frames_analyzed
    assert [part.number for part in notebook.parts] == [0, 1]
    assert [part.carry is None for part in notebook.parts] == [True, False]


async def test_keyframes(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """Keyframes are gone on with; what was measured of them is of no use to another sampling."""
    path = make_video(tmp_path / "v.mp4", frames=720, options={**X264, "g": "6"})
    whole = await Attempt(path, device, server, Notebook(), "keyframes").complete()
    notebook = Notebook()

    await Attempt(path, device, server, notebook, "keyframes").stop_at(0.3)
    parts = list(notebook.parts)
    last = Attempt(path, device, server, notebook, "keyframes")
    resumed = await last.complete()
    notebook.parts[:] = parts
    other = Attempt(path, device, server, notebook, 5.0)
    every_fifth = await other.complete()

    assert whole.frames_analyzed == 120
    assert_same(resumed, whole)
    assert last.frames <= 0.75 * whole.frames_analyzed
    assert other.frames == every_fifth.frames_analyzed


@pytest.mark.xdist_group("samples")
async def test_every_kind_of_event(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """Events that are open at a checkpoint end as they would have."""
    for sample in make_samples(tmp_path):
        if sample.name not in {"black", "freeze", "motion", "cuts"}:
            continue
        whole = await Attempt(sample.path, device, server, Notebook(), 5.0).complete()
        for fraction in (0.25, 0.5, 0.75):
            notebook = Notebook()
            await Attempt(sample.path, device, server, notebook, 5.0).stop_at(fraction)

            resumed = await Attempt(sample.path, device, server, notebook, 5.0).complete()

            assert notebook.parts
            assert_same(resumed, whole)


async def test_killed(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """Without a farewell, what was done since the last checkpoint is done again, and no more."""
    path = make_video(tmp_path / "v.mp4", frames=960)
    whole = await Attempt(path, device, server, Notebook(), None).complete()
    notebook = Notebook()
    first = Attempt(path, device, server, notebook, None, interval_seconds=0.05)
    await first.stop_at(0.7)
    assert len(notebook.parts) > 2
    notebook.parts = notebook.parts[:-1]
    notebook.parts[-1] = replace(notebook.parts[-1], carry=None)
    without_carry = Attempt(path, device, server, notebook, None)

    resumed = await without_carry.complete()

    assert_same(resumed, whole)
    assert without_carry.frames == whole.frames_analyzed


async def test_a_part_that_was_not_kept(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """What could not be written is in the next part, so that none is missing between."""
    path = make_video(tmp_path / "v.mp4", frames=480)
    whole = await Attempt(path, device, server, Notebook(), None).complete()
    notebook = Notebook(is_closed=True)
    first = Attempt(path, device, server, notebook, None, interval_seconds=0.01)
    first.opens_after = 100
    await first.stop_at(0.8)

    resumed = await Attempt(path, device, server, notebook, None).complete()

    assert_same(resumed, whole)


async def test_damage_before_the_checkpoint(
    tmp_path: Path, device: Device, server: ForkServer
) -> None:
    """A gap that was found before is not lost, and not found again."""
    path = make_video(tmp_path / "v.mp4", frames=480, width=640, height=360)
    corrupt_packets(path, 100, 104, keep=40)
    whole = await Attempt(path, device, server, Notebook(), None).complete()
    notebook = Notebook()
    await Attempt(path, device, server, notebook, None).stop_at(0.6)

    resumed = await Attempt(path, device, server, notebook, None).complete()

    assert any(event.event_type == "decode_gap" for event in whole.results.events)
    assert_same(resumed, whole)


async def test_stopped_within_damage(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """Wherever an analysis stops around damage, each gap is told once, and every frame counted."""
    path = make_video(tmp_path / "v.mp4", frames=240, width=640, height=360)
    corrupt_packets(path, 100, 104, keep=40)
    whole = await Attempt(path, device, server, Notebook(), 5.0).complete()
    for frame in range(98, 112, 2):
        notebook = Notebook()
        first = Attempt(path, device, server, notebook, 5.0, batch_size=1)
        await first.stop_at(frame / 240)

        resumed = await Attempt(path, device, server, notebook, 5.0).complete()

        ours, theirs = (
            [event for event in each.results.events if event.event_type == "decode_gap"]
            for each in (resumed, whole)
        )
        assert ours == theirs != []
        assert resumed.frames_decoded == whole.frames_decoded == 240
        assert resumed.frames_analyzed == whole.frames_analyzed


async def test_the_way_back_is_long(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """A decoder that must pass what was measured before shows meanwhile that it works."""
    path = tmp_path / "v.ts"
    piece = make_video(tmp_path / "piece.ts", frames=480, width=1280, height=720)
    run_ffmpeg("-stream_loop", "4", "-i", piece, "-c", "copy", path)
    notebook = Notebook()
    await Attempt(path, device, server, notebook, 0.5).stop_at(0.9)
    impatient = Attempt(path, device, server, notebook, 0.5, stall_seconds=1.5)

    resumed = await impatient.complete()

    assert resumed.frames_analyzed == 50
    assert impatient.frames <= 8


def find_needless(path: Path, start: int) -> tuple[int, int]:
    """The first packet from `start` on that no picture refers to and no sampling at 5 Hz takes."""
    with av.open(str(path)) as container:
        for number, packet in enumerate(container.demux(video=0)):
            if number < start or packet.pts is None or packet.time_base is None:
                continue
            frame, is_reference = int(packet.pts * packet.time_base * 24), bytes(packet)[4] & 0x60
            if not is_reference and frame * 5 // 24 == (frame - 1) * 5 // 24:
                return number, number + 1
    raise AssertionError("there is none")


async def test_damage_behind_the_checkpoint(
    tmp_path: Path, device: Device, server: ForkServer
) -> None:
    """Where damage was met before, more of it is looked for, also where no result depends on it."""
    path = make_video(tmp_path / "v.mp4", frames=480, width=640, height=360)
    corrupt_packets(path, 100, 104, keep=40)
    corrupt_packets(path, *find_needless(path, 400), keep=8)
    whole = await Attempt(path, device, server, Notebook(), 5.0).complete()
    notebook = Notebook()
    await Attempt(path, device, server, notebook, 5.0).stop_at(0.4)

    resumed = await Attempt(path, device, server, notebook, 5.0).complete()

    gaps = [each.start_ms for each in whole.results.events if each.event_type == "decode_gap"]
    assert gaps[0] < 5000
    assert gaps[-1] > 16000
    assert_same(resumed, whole)


@pytest.mark.parametrize("mangled", ["another size", "no carry"])
async def test_a_checkpoint_that_does_not_fit(
    tmp_path: Path, device: Device, server: ForkServer, mangled: str
) -> None:
    """The video is analysed from its beginning, and the device lives on."""
    path = make_video(tmp_path / "v.mp4", frames=240)
    whole = await Attempt(path, device, server, Notebook(), 5.0).complete()
    notebook = Notebook()
    await Attempt(path, device, server, notebook, 5.0).stop_at(0.5)
    carry = make_carry(20, 30) if mangled == "another size" else {"second": np.array(1)}
    notebook.parts[-1] = replace(notebook.parts[-1], carry=b"".join(pack({}, carry)))
    last = Attempt(path, device, server, notebook, 5.0)

    resumed = await last.complete()

    assert_same(resumed, whole)
    assert last.frames == whole.frames_analyzed
    assert device.restarts == 0


async def test_other_sampling(tmp_path: Path, device: Device, server: ForkServer) -> None:
    """Checkpoints of another sampling rate are not gone on from."""
    path = make_video(tmp_path / "v.mp4", frames=480)
    whole = await Attempt(path, device, server, Notebook(), 5.0).complete()
    notebook = Notebook()
    await Attempt(path, device, server, notebook, 12.0).stop_at(0.5)

    resumed = await Attempt(path, device, server, notebook, 5.0).complete()

    assert_same(resumed, whole)

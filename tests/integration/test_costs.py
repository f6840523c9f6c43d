"""What an analysis row says that it cost."""

from tests.clips import make_clip
from tests.integration.conftest import Systems
from tests.integration.test_pipeline import WeakDevice, run

from poller.rules.verdict import Interrupted, Stored


async def test_the_cost_of_a_whole_video(systems: Systems) -> None:
    """Time of the decoder's CPU and of the device, and every frame analysed or skipped."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=4)
    await systems.upload("k", clip.read_bytes())

    await run(systems)

    (row,) = await systems.connections.fetch("SELECT * FROM latest_analyses")
    assert row["cpu_seconds"] > 0
    assert row["device_seconds"] > 0
    assert row["frames_decoded"] == 100
    assert (row["frames_analyzed"], row["frames_skipped"]) == (20, 100 - 20)
    assert row["size_bytes"] == clip.stat().st_size
    assert row["cost_from_ms"] is None


async def test_the_cost_of_the_rest_of_a_video(systems: Systems) -> None:
    """Where earlier runs got to is said, because what they cost is not in the row."""
    clip = make_clip(systems.directory / "clip.mp4", seconds=4)
    await systems.upload("k", clip.read_bytes())
    device = WeakDevice("cpu")

    device.batches = 1
    first = await run(systems, device, checkpoint_seconds=0)
    device.batches = 100
    second = await run(systems, device, checkpoint_seconds=0)
    await device.close()

    (row,) = await systems.connections.fetch("SELECT * FROM latest_analyses")
    assert (type(first), type(second)) == (Interrupted, Stored)
    assert row["cost_from_ms"] == 1400  # the last of the eight frames that the first run measured
    assert row["frames_skipped"] + row["frames_analyzed"] == row["frames_decoded"]

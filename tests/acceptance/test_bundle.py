"""A service with a bundle of models from S3: persons become rows."""

import fcntl
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shop
from tests.persons import make_people, write_walk
from tests.running import Service, running

from poller.bundles import CACHE, bundle_at

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")


async def started(service: Service) -> None:
    """Wait for a service that has a bundle to load."""
    await service.logged("service.started", seconds=120)


async def test_persons_become_rows(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """Each appearance once, with what was read off it and its vector, known by the bundle."""
    bundle = make_people(tmp_path / "bundle")
    for path in ["bundle.toml", *bundle.manifest.files]:
        await shop.upload(bundle.root / path, f"models/people/{path}")
    write_walk(tmp_path / "walk.mp4")
    await shop.upload(tmp_path / "walk.mp4", "walk.mp4")
    await shop.announce("walk.mp4", 84)
    (tmp_path / "work").mkdir()
    model = {"model": f"s3://{shop.bucket}/models/people/", "work_dir": str(tmp_path / "work")}

    async with running(settings_env, **model, sample_fps="all") as service:
        await started(service)
        await service.logged("video.finished", outcomes=("stored",), seconds=120)
        assert await service.metric("poller_errors_total", kind="model_invalid") == 0
        assert await service.stop() == 0

    assert (await shop.analysis("walk.mp4"))["pipeline"] == "people-1/analysis-1"
    red, blue = await shop.database.fetch("SELECT * FROM events WHERE event_type = 'person'")
    assert (red["track_id"], red["start_ms"], red["end_ms"]) == (1, 1000, 4000)
    assert (blue["track_id"], blue["start_ms"], blue["end_ms"]) == (2, 2500, 5000)
    assert (red["gender"], red["age_group"]) == ("male", "middle")
    assert (blue["gender"], blue["age_group"]) == ("female", "old")
    assert (red["age"], blue["age"]) == (pytest.approx(40, abs=2), pytest.approx(70, abs=2))
    actions = await shop.database.fetch(
        "SELECT track_id, start_ms, end_ms, attributes -> 'action' ->> 'value' AS value"
        " FROM events WHERE event_type = 'action' ORDER BY start_ms"
    )
    assert [tuple(row) for row in actions] == [(1, 1000, 4000, "sits"), (2, 2500, 5000, "waves")]
    kinds = await shop.database.fetch(
        "SELECT kind, track_id FROM embeddings WHERE model = 'people-1' ORDER BY kind, track_id"
    )
    shots = await shop.database.fetchval("SELECT count(*) FROM events WHERE event_type = 'shot'")
    assert [row["track_id"] for row in kinds if row["kind"] == "track"] == [1, 2]
    assert sum(row["kind"] == "frame" for row in kinds) == 5  # one for each second
    assert sum(row["kind"] == "shot" for row in kinds) == shots
    (kept,) = (tmp_path / "work" / CACHE).glob("*/")
    assert {path.name for path in kept.iterdir()} == {
        "action",
        "age",
        "bundle.toml",
        "detector",
        "embedder",
        "gender",
    }


async def test_the_next_task_finds_the_bundle(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but `bundle.toml` is fetched again, unless what lies there was damaged."""
    for name, value in settings_env.items():
        monkeypatch.setenv(name, value)
    bundle = make_people(tmp_path / "bundle")
    manifest, *models = ["bundle.toml", *bundle.manifest.files]
    for path in [manifest, *models]:
        await shop.upload(bundle.root / path, f"people/{path}")
    address = f"s3://{shop.bucket}/people"
    async with bundle_at(address, tmp_path) as first:
        pass
    killed = tmp_path / CACHE / "video-poller-killed"
    killed.mkdir()
    (killed / "lock").touch()
    (tmp_path / "other").write_bytes(b"other")
    for path in models:
        await shop.upload(tmp_path / "other", f"people/{path}")

    async with bundle_at(address, tmp_path) as again:
        pass

    assert again == first
    assert {path.name for path in (tmp_path / CACHE).iterdir()} == {"lock", first.root.name}
    (first.root / models[0]).write_bytes(b"damaged")
    for path in models:
        await shop.upload(bundle.root / path, f"people/{path}")
    async with bundle_at(address, tmp_path) as mended:
        assert mended == first
    assert (first.root / models[0]).read_bytes() == (bundle.root / models[0]).read_bytes()


async def test_it_lives_while_the_bundle_is_fetched(
    shop: Shop, settings_env: dict[str, str], tmp_path: Path
) -> None:
    """However long that takes: alive, not ready, and its metrics can be read."""
    bundle = make_people(tmp_path / "bundle")
    for path in ["bundle.toml", *bundle.manifest.files]:
        await shop.upload(bundle.root / path, f"people/{path}")
    (tmp_path / CACHE).mkdir()
    model = {"model": f"s3://{shop.bucket}/people", "work_dir": str(tmp_path)}

    with (tmp_path / CACHE / "lock").open("w") as held:  # as while another task fetches it
        fcntl.flock(held, fcntl.LOCK_EX)
        async with running(settings_env, **model) as service:
            alive = await service.get("/healthz", after="service.starting")
            ready = await service.get("/readyz", after="service.starting")
            metrics = await service.get("/metrics", after="service.starting")
            begun = [line for line in service.lines if line["event"] == "service.started"]
            fcntl.flock(held, fcntl.LOCK_UN)
            await started(service)
            awaited = await service.get("/readyz")
            assert await service.stop() == 0

    assert alive[0] == 200
    assert (ready[0], "starting" in ready[1]) == (503, True)
    assert metrics[0] == 200
    assert begun == []
    assert awaited[0] == 200


async def test_a_bundle_that_does_not_verify(settings_env: dict[str, str], tmp_path: Path) -> None:
    """The service does not start, says why in one line."""
    bundle = make_people(tmp_path / "bundle")
    (bundle.root / "age" / "config.json").write_text("{}")

    async with running(settings_env, model=str(bundle.root)) as service:
        assert await service.process.wait() == 2

    said = " ".join(str(line["event"]) for line in service.lines)
    assert "age/config.json: has sha256" in said
    assert "Traceback" not in said

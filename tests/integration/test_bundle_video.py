"""Models whose answers are known, over a real video, from the decoder to the persons."""

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.commands import run_poller
from tests.factories_bundle import EMBEDDER, write_bundle, write_embedder
from tests.persons import BLUE, RED, make_people, paint, write_change, write_walk

from inference.bundle import Bundle
from inference.errors import DecodersUnavailableError
from inference.forkserver import ForkServer
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.samples import write_video
from poller.cli.trial import trial
from poller.errors import PermanentError, SettingsError

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Red is a man of 40, blue a woman of 70."""
    return make_people(tmp_path / "bundle")


def test_persons_of_a_video_are_found(tmp_path: Path, bundle: Bundle) -> None:
    """Each appearance once, with the times of its frames, its box and what was read off it."""
    video = tmp_path / "walk.mp4"
    write_walk(video)

    shown = run_poller({}, "bundle", "try", str(bundle.root), str(video), "--fps", "10", "--json")

    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["frames"], found["crowded"], found["invalid"]) == (50, 0, 0)
    red, blue = found["persons"]
    assert (red["track_id"], red["start_ms"], red["end_ms"]) == (1, 1000, 4000)
    assert (blue["track_id"], blue["start_ms"], blue["end_ms"]) == (2, 2500, 5000)
    assert red["bbox"] == pytest.approx([1 / 8, 2 / 8, 2 / 8, 4 / 8], abs=0.005)
    assert blue["bbox"] == pytest.approx([5 / 8, 1 / 8, 2 / 8, 5 / 8], abs=0.005)
    assert (red["gender"], blue["gender"]) == ("male", "female")
    assert min(red["gender_score"], blue["gender_score"]) > 0.9
    assert red["age"] == pytest.approx(40, abs=2)
    assert blue["age"] == pytest.approx(70, abs=2)
    assert (red["age_group"], blue["age_group"]) == ("middle", "old")
    tracks = [(each["track_id"], each["model"], each["numbers"]) for each in found["embeddings"]]
    assert tracks == [(1, "people-1", 24), (2, "people-1", 24)]


def test_what_somebody_does_has_its_times(tmp_path: Path, bundle: Bundle) -> None:
    """One person, who sits, and then waves."""
    write_change(tmp_path / "change.mp4")
    asked = ("bundle", "try", str(bundle.root), str(tmp_path / "change.mp4"), "--fps", "10")

    found = json.loads(run_poller({}, *asked, "--json").stdout)
    shown = run_poller({}, *asked).stdout

    (person,) = found["persons"]
    sits, waves = found["intervals"]
    assert (person["start_ms"], person["end_ms"]) == (0, 5000)
    assert (sits["event_type"], sits["start_ms"], sits["end_ms"]) == ("action", 0, 2800)
    assert (waves["start_ms"], waves["end_ms"]) == (2800, 5000)
    assert [each["attributes"]["action"]["value"] for each in (sits, waves)] == ["sits", "waves"]
    assert {each["track_id"] for each in (person, sits, waves)} == {1}
    assert sits["bbox"] == pytest.approx([1 / 8, 2 / 8, 2 / 8, 4 / 8], abs=0.005)
    assert shown.startswith("1 person in 50 frames\n")
    assert "\n    0:00.000 to 0:02.800: track 1, action sits 100%" in shown


@pytest.mark.parametrize(
    ("threshold", "frames", "said"),
    [
        (1.0, 9, r"the surest score was (1|0\.9\d+), threshold is 1"),
        (0.5, 1, r"the surest score was (1|0\.9\d+), but of nobody in two frames"),
        (
            0.5,
            0,
            r"no box was a person with a score of 0\.1 \(tracker\.low\) or more; threshold is 0\.5",
        ),
    ],
    ids=["unsure", "once", "nobody"],
)
async def test_that_nobody_is_found_is_explained(
    tmp_path: Path,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    threshold: float,
    frames: int,
    said: str,
) -> None:
    """By the surest score that there was, in one line."""
    path = bundle.root / "bundle.toml"
    path.write_text(path.read_text().replace("threshold = 0.5", f"threshold = {threshold}"))
    pictures = enumerate([paint((RED, (1, 2, 3, 6)))] * frames + [paint()] * (10 - frames))
    write_video(tmp_path / "red.mp4", pictures, time_base=Fraction(1, 10), fps=Fraction(10))

    await trial(str(bundle.root), tmp_path / "red.mp4", "cpu", 10, as_json=False)

    assert re.fullmatch(f"0 persons in 10 frames: {said}\n", capsys.readouterr().out)


def test_frames_of_several_videos_may_be_seen_at_once(bundle: Bundle) -> None:
    """Crops of all frames share batches, and each value finds back to its person."""
    models = Models.load(bundle, torch.device("cpu"), batch_size=4)
    pictures = [
        paint((RED, (1, 2, 3, 6)), (BLUE, (5, 1, 7, 6))),
        paint(),
        paint((BLUE, (0, 0, 2, 8))),
        paint((RED, (4, 0, 8, 4))),
        paint((RED, (0, 4, 2, 8)), (BLUE, (2, 4, 4, 8))),
    ]
    frames = [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]

    together = look_at(models, frames)

    assert [len(sight.vectors) for sight in together] == [2, 0, 1, 1, 2]
    for frame, sight in zip(frames, together, strict=True):
        (alone,) = look_at(models, [frame])
        np.testing.assert_allclose(sight.persons.boxes, alone.persons.boxes, atol=1e-5)
        for name in ("gender", "age"):
            for one, other in zip(sight.readings[name], alone.readings[name], strict=True):
                assert one.text == other.text
                assert one.number == pytest.approx(other.number, abs=1e-3)
        for vector, expected in zip(sight.vectors, alone.vectors, strict=True):
            assert vector is not None
            assert expected is not None
            np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_vectors_without_a_direction_are_counted(bundle: Bundle) -> None:
    """The persons are there all the same, with what else was read off them."""
    models = Models.load(bundle, torch.device("cpu"))
    assert models.embedder is not None
    for weight in models.embedder.network.parameters():
        weight.fill_(float("nan"))
    picture = torch.from_numpy(paint((RED, (1, 2, 3, 6)), (BLUE, (5, 1, 7, 6))))

    (sight,) = look_at(models, [picture.permute(2, 0, 1)])

    assert (sight.vectors, sight.invalid) == ([None, None], 2)
    assert [reading.text for reading in sight.readings["gender"]] == ["male", "female"]


async def test_a_bundle_without_a_detector_finds_nobody(tmp_path: Path) -> None:
    """It is told so, and the video is not even opened."""
    write_embedder(tmp_path / "embedder", "clip")
    write_bundle(tmp_path, EMBEDDER)

    with pytest.raises(SettingsError, match="without a detector there are no persons"):
        await trial(str(tmp_path), tmp_path / "no.mp4", "cpu", 5, as_json=True)


async def test_a_file_that_is_no_video_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    """By its reason."""
    text = tmp_path / "text.mp4"
    text.write_text("no video")

    with pytest.raises(PermanentError, match="not_a_video"):
        await trial(str(bundle.root), text, "cpu", 5, as_json=True)


async def test_no_decoder_can_be_started(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one line, not a traceback."""
    video = tmp_path / "walk.mp4"
    write_walk(video)

    async def refuse(_: ForkServer) -> ForkServer:
        raise DecodersUnavailableError("no process can be started")

    monkeypatch.setattr(ForkServer, "__aenter__", refuse)

    with pytest.raises(SettingsError, match="decoders cannot be started: no process"):
        await trial(str(bundle.root), video, "cpu", 5, as_json=True)

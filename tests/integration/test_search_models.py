"""`poller search` by the vectors of a bundle: words, pictures and moments."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.factories_bundle import (
    DETECTOR,
    EMBEDDER,
    WORDS,
    write_bundle,
    write_detector,
    write_embedder,
    write_tokenizer,
)

from inference.bundle import Bundle
from inference.manifest import BundleError
from inference.models.batches import BatchSize
from inference.models.embedder import Embedder
from inference.models.text import TextTower
from inference.samples import paint_scene, write_video
from inference.still import read_picture
from poller.cli.likeness import Moment, find_likeness
from poller.cli.search import Wanted, search
from poller.errors import SettingsError
from poller.postgres.reports import Reports

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")

CPU = torch.device("cpu")
SIZES = {"clip": 24, "siglip": 16}


def make(root: Path, family: str) -> tuple[Any, Bundle]:
    """A model with both towers, and the bundle that it is the embedder of."""
    model = write_embedder(root / "embedder", family)
    write_tokenizer(root / "embedder")
    return model, write_bundle(root, EMBEDDER)


def features(model: Any, family: str, *words: str) -> npt.NDArray[np.float32]:
    """What transformers itself makes of these tokens, with length 1."""
    tokens = [WORDS.index(word) for word in words]
    if family == "siglip":  # trained with texts of one length, the padding seen
        tokens += [0] * (8 - len(tokens))
    with torch.inference_mode():
        found = model.get_text_features(input_ids=torch.tensor([tokens])).pooler_output[0]
    vector: npt.NDArray[np.float32] = (found / found.norm()).numpy()
    return vector


@pytest.mark.parametrize("family", SIZES)
def test_words_become_transformers_features(tmp_path: Path, family: str) -> None:
    """In any case, unknown ones too, and a text that is too long is cut before its end."""
    model, bundle = make(tmp_path, family)
    tower = TextTower.load(bundle, CPU)

    short, long = tower.embed("A RED zebra"), tower.embed("a car of a blue person with a car")

    assert short.shape == (SIZES[family],)
    expected = features(model, family, "<s>", "a", "red", "<unk>", "</s>")
    np.testing.assert_allclose(short, expected, atol=1e-6)
    cut = features(model, family, "<s>", "a", "car", "of", "a", "blue", "person", "</s>")
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert abs(float(np.linalg.norm(short)) - 1) < 1e-6


async def store(
    database: "asyncpg.Connection[asyncpg.Record]",
    name: str,
    model: str,
    vectors: dict[int, npt.NDArray[np.float32]],
) -> None:
    """A video whose frames a model has described so, at these seconds."""
    analysis_id = await database.fetchval(
        "WITH v AS (INSERT INTO videos (bucket, object_key, external_id, external_id_source)"
        "  VALUES ('shop', $1, $1, 'body') RETURNING id)"
        " INSERT INTO analyses (video_id, revision, pipeline, state, lease_token, lease_id,"
        " lease_owner, lease_expires_at, attempts, done_token, object_modified_at)"
        " SELECT id, 'r', 'p', 'done', 1, gen_random_uuid(), 'o', now(), 1, 1, $2 FROM v"
        " RETURNING id",
        name,
        datetime(2025, 12, 29, tzinfo=UTC),
    )
    for seq, (second, vector) in enumerate(vectors.items()):
        await database.execute(
            "INSERT INTO embeddings (analysis_id, lease_token, seq, kind, start_ms, end_ms, model,"
            " embedding)"
            " VALUES ($1, 1, $2, 'frame', $3::int, $3::int + 1000, $4, $5::text::halfvec)",
            analysis_id,
            seq,
            second * 1000,
            model,
            str(vector.tolist()),
        )


@pytest.fixture
def found(
    settings_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Searches with a model, and says which videos were found at which second, with the score."""

    async def find(
        model: str, asked: Path | Moment | str, within: str | None = None
    ) -> list[tuple[str, int, float]]:
        for name, value in (settings_env | {"POLLER_MODEL": model}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        is_person = isinstance(asked, Moment) and asked.of_person
        kind = "track" if is_person else "frame"
        await search(Wanted(asked, within, None, kind, None, None, 10), as_json=True)
        rows = json.loads(capsys.readouterr().out)
        return [(row["external_id"], row["start_ms"] // 1000, row["score"]) for row in rows]

    return find


@pytest.mark.parametrize("family", SIZES)
async def test_a_search_reads_the_vectors_of_the_bundle_alone(
    database: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path, found: Any, family: str
) -> None:
    """Words, a picture and a moment find what the bundle described, nearest first."""
    model, bundle = make(tmp_path / "bundle", family)
    path, size = str(bundle.root), SIZES[family]
    random = np.random.default_rng(1)
    directions = random.normal(size=(3, size)).astype(np.float32)
    red = features(model, family, "<s>", "a", "red", "car", "</s>")
    # A video's first frame stands for the picture that is looked for.
    write_video(tmp_path / "seen.mp4", enumerate([paint_scene(1, 256, 144)] * 2))
    await store(database, "red", "people-1", {0: directions[0], 40: red})
    await store(database, "like", "people-1", {7: red + directions[1] * 0.01})
    await store(database, "unlike", "people-1", {9: -red})
    await store(database, "other", "people-2", {0: red})
    await store(database, "built-in", "dct-hog-v1", {0: np.ones(256, np.float32)})
    await database.execute(  # nearer to the time that is asked for, by another bundle
        "INSERT INTO embeddings (analysis_id, lease_token, seq, kind, start_ms, end_ms, model,"
        " embedding) SELECT analysis_id, 1, 9, 'frame', 40300, 41300, 'people-2', $1::text::halfvec"
        " FROM embeddings WHERE start_ms = 40000",
        str((-red).tolist()),
    )

    words = await found(path, "a red car")
    moment = await found(path, Moment("red", "0:40.3"))
    within = await found(path, Moment("red", "0:40.3"), "red")
    picture = await found(path, tmp_path / "seen.mp4")
    builtin = await found("builtin", tmp_path / "seen.mp4")

    assert words[0][:2] == ("red", 40)
    assert words[0][2] == pytest.approx(1, abs=1e-3)
    assert {name for name, *_ in words} == {"red", "like", "unlike"}
    assert words[-1][:2] == ("unlike", 9)
    assert words[-1][2] == pytest.approx(-1, abs=1e-3)
    assert [name for name, *_ in moment] == ["like", "unlike"]
    assert [second for _, second, _ in within] == [40, 0]
    assert {name for name, *_ in picture} == {"red", "like", "unlike"}
    assert [name for name, *_ in builtin] == ["built-in"]


async def test_where_else_a_person_is(
    database: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path, found: Any
) -> None:
    """By the vector of whoever is seen then, which is not that of the picture."""
    _, bundle = make(tmp_path / "bundle", "clip")
    path = str(bundle.root)
    ann, bob, scene = np.random.default_rng(1).normal(size=(3, SIZES["clip"])).astype(np.float32)
    await store(database, "door", "people-1", {0: scene, 1: scene, 9: ann, 10: bob})
    await store(database, "till", "people-1", {5: ann, 6: scene})
    await store(database, "yard", "people-1", {7: bob, 8: scene})
    await database.execute(  # Ann is seen from 0 to 4 s, Bob from 2 to 6 s
        "UPDATE embeddings SET kind = 'track', track_id = 1 + start_ms / 1000 % 2,"
        " start_ms = CASE start_ms WHEN 9000 THEN 0 WHEN 10000 THEN 2000 ELSE start_ms END,"
        " end_ms = CASE start_ms WHEN 9000 THEN 4000 WHEN 10000 THEN 6000 ELSE end_ms END"
        " WHERE start_ms IN (5000, 7000, 9000, 10000)"
    )

    assert (await found(path, Moment("door", "1", True)))[0][:2] == ("till", 5)
    assert (await found(path, Moment("door", "5", True)))[0][:2] == ("yard", 7)
    assert (await found(path, Moment("door", "3", True, 1)))[0][:2] == ("yard", 7)
    for moment, line in (
        (Moment("door", "3", True), r"--track: in door at 0:03\.000 there are 1 \(0:02.* 2 \(0:00"),
        (Moment("door", "3", True, 7), r"--track: in door at 0:03\.000 there are 1 \("),
        (Moment("door", "8", True), r"--at: people-1 has seen nobody in door at 0:08\.000;"),
    ):
        with pytest.raises(SettingsError, match=line):
            await found(path, moment)


async def test_a_picture_is_read_as_large_as_the_frames_are(
    database: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    """Else the model would compare what it saw sharp with what it sees blurred."""
    _, bundle = make(tmp_path / "bundle", "clip")
    large = Bundle(bundle.root, bundle.manifest.model_copy(update={"frame_side": 640}))
    noise = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
    write_video(tmp_path / "seen.mp4", enumerate([noise] * 2), options={"crf": "0"})
    assert bundle.manifest.embedder is not None
    embedder = Embedder.load(bundle, bundle.manifest.embedder, CPU, batch_size=BatchSize(1))

    like = await find_likeness(Reports(database), tmp_path / "seen.mp4", large)

    sharp, blurred = (
        embedder.embed([read_picture(tmp_path / "seen.mp4", side)])[0] for side in (640, 256)
    )
    assert sharp is not None
    assert blurred is not None
    np.testing.assert_allclose(json.loads(like.vector), sharp, atol=1e-6)
    assert float(sharp @ blurred) < 0.9999


async def test_what_a_bundle_cannot_look_for(
    database: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path, found: Any
) -> None:
    """One line says what it lacks; without an embedder, pictures go by the built-in descriptor."""
    write_embedder(tmp_path / "vision" / "embedder", "clip_vision_model")
    write_embedder(tmp_path / "mute" / "embedder", "clip")
    write_detector(tmp_path / "seeing" / "detector", "yolos")
    vision = write_bundle(tmp_path / "vision", EMBEDDER).root
    mute = write_bundle(tmp_path / "mute", EMBEDDER).root
    seeing = write_bundle(tmp_path / "seeing", DETECTOR).root
    write_video(tmp_path / "seen.mp4", enumerate([paint_scene(1, 256, 144)] * 2))
    await store(database, "built-in", "dct-hog-v1", {0: np.ones(256, np.float32)})

    for model, line in (
        ("builtin", "--text: the built-in descriptor knows no words"),
        (str(vision), "--text: people-1 has no text tower: its embedder is a clip_vision_model"),
        (str(mute), "--text: embedder/tokenizer.json: is missing"),
        (str(seeing), "--text: people-1 has no embedder"),
    ):
        with pytest.raises(SettingsError, match=line) as refused:
            await found(model, "a red car")
        assert len(refused.value.lines) == 1
    assert [name for name, *_ in await found(str(seeing), tmp_path / "seen.mp4")] == ["built-in"]


def test_tokens_that_are_no_tokens_are_refused(tmp_path: Path) -> None:
    """The file is sealed, and yet wrong: one line instead of a library's traceback."""
    write_embedder(tmp_path / "embedder", "clip")
    write_tokenizer(tmp_path / "embedder")
    (tmp_path / "embedder" / "tokenizer.json").write_text("{}")
    bundle = write_bundle(tmp_path, EMBEDDER)

    with pytest.raises(BundleError, match=r"tokenizer\.json: does not load") as refused:
        TextTower.load(bundle, CPU)

    assert "\n" not in str(refused.value)

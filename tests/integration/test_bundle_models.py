"""Real checkpoints through the parts of a bundle, against transformers itself."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tests.commands import run_poller
from tests.factories_bundle import (
    AGE,
    DETECTOR,
    EMBEDDER,
    GENDER,
    names,
    write_bundle,
    write_classifier,
    write_detector,
    write_embedder,
)
from tests.known_models import write_rectangle_detector

from inference.manifest import BundleError
from inference.models.batches import BatchSize, start
from inference.models.line import look_at
from inference.models.loaded import Models
from inference.models.pixels import Preparation
from inference.models.weights import free_bytes
from poller.cli.bundle import check

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")

CPU = torch.device("cpu")
DETECTORS = ("rt_detr_v2", "d_fine", "yolos")
PROCESSORS = {
    "stretched": lambda: hf.RTDetrImageProcessorPil(size={"height": 40, "width": 72}),
    "short edge": lambda: hf.YolosImageProcessorPil(
        size={"shortest_edge": 48, "longest_edge": 200}
    ),
    "long edge": lambda: hf.YolosImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 70}),
    "cropped": lambda: hf.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ),
    "crop beyond": lambda: hf.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 40, "width": 41}
    ),
    "lanczos": lambda: hf.ViTImageProcessorPil(size={"height": 33, "width": 40}, resample=1),
    "bicubic": lambda: hf.SiglipImageProcessorPil(size={"height": 200, "width": 190}),
    "plain": lambda: hf.ViTImageProcessorPil(
        size={"height": 32, "width": 32}, do_normalize=False, do_rescale=False
    ),
}


def make_picture(height: int = 90, width: int = 120, seed: int = 0) -> torch.Tensor:
    """Coarse noise, uint8 [3, H, W]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (3, -(-height // 6), -(-width // 6)), np.uint8)
    return torch.from_numpy(coarse.repeat(6, 1).repeat(6, 2)[:, :height, :width].copy())


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", [(90, 120), (60, 200)], ids=str)
def test_pictures_are_prepared_as_by_the_image_processor(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    """Same size, and the same levels; at sizes where every Pillow resizes the width first."""
    write_classifier(tmp_path / "gender", "f", "m")
    write_detector(tmp_path / "detector", "yolos")
    processor: Any = PROCESSORS[name]()
    processor.save_pretrained(tmp_path / "gender")
    bundle = write_bundle(tmp_path, DETECTOR, GENDER)
    picture = make_picture(*size)

    expected = processor(picture.permute(1, 2, 0).numpy(), return_tensors="pt")["pixel_values"][0]
    prepared = Preparation.read(bundle, "attributes.gender", "gender")(picture)

    assert prepared.shape == expected.shape
    assert (prepared - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_that_are_prepared_together(tmp_path: Path, name: str) -> None:
    """The same bits as one by one, whatever sizes there are among them."""
    write_classifier(tmp_path / "gender", "f", "m")
    write_detector(tmp_path / "detector", "yolos")
    PROCESSORS[name]().save_pretrained(tmp_path / "gender")
    bundle = write_bundle(tmp_path, DETECTOR, GENDER)
    prepare = Preparation.read(bundle, "attributes.gender", "gender")
    sizes = [(90, 120), (60, 200), (90, 120), (33, 35), (90, 120)]
    pictures = [make_picture(*size, seed=at) for at, size in enumerate(sizes)]

    together = prepare.each(pictures)

    for picture, prepared in zip(pictures, together, strict=True):
        assert torch.equal(prepared, prepare(picture))


@pytest.mark.parametrize("family", DETECTORS)
def test_a_detector_sees_what_transformers_sees(tmp_path: Path, family: str) -> None:
    """Same boxes and scores as a direct forward and the processor's own reading of it."""
    network = write_detector(tmp_path / "detector", family, "person")
    bundle = write_bundle(tmp_path, DETECTOR)
    detector = Models.load(bundle, CPU).detector
    assert detector is not None
    picture = make_picture()

    (found,) = detector.detect([picture], 0.0)

    with torch.inference_mode():
        output = network(pixel_values=detector.prepare(picture)[None])
    reader: Any = hf.YolosImageProcessorPil if family == "yolos" else hf.RTDetrImageProcessorPil
    (expected,) = reader().post_process_object_detection(output, threshold=0.0)
    order = expected["scores"].argsort(descending=True, stable=True)
    np.testing.assert_array_equal(found.scores, expected["scores"][order].double())
    np.testing.assert_array_equal(found.boxes, expected["boxes"][order].clamp(0, 1).double())
    assert len(found.scores) == len(output.logits[0])


@pytest.mark.parametrize("family", DETECTORS)
def test_only_the_labels_that_are_wanted_are_seen(tmp_path: Path, family: str) -> None:
    """What is likelier something else is no person, and below the floor there is nobody."""
    network = write_detector(tmp_path / "detector", family, "car", "person", "dog", seed=3)
    detector = Models.load(write_bundle(tmp_path, DETECTOR), CPU).detector
    assert detector is not None
    picture = make_picture()

    (everybody,) = detector.detect([picture], 1e-9)
    middle = float(np.median(everybody.scores)) if len(everybody.scores) else 0.5
    (some,) = detector.detect([picture], middle)

    with torch.inference_mode():
        logits = network(pixel_values=detector.prepare(picture)[None]).logits[0]
    likely = logits.softmax(-1)[:, :-1]
    persons = (
        likely[likely.argmax(-1) == 1, 1] if family == "yolos" else logits[:, 1].sigmoid()
    ).sort(descending=True)[0]
    np.testing.assert_allclose(everybody.scores, persons, rtol=1e-6)
    assert 0 < len(persons) < (10 if family == "yolos" else 13)
    assert some.scores.tolist() == [score for score in everybody.scores if score >= middle]


@pytest.mark.parametrize("family", ["clip", "clip_vision_model", "siglip"])
def test_an_embedder_gives_the_direction_of_transformers_features(
    tmp_path: Path, family: str
) -> None:
    """Those that a text tower's vectors are compared with."""
    network = write_embedder(tmp_path / "embedder", family)
    embedder = Models.load(write_bundle(tmp_path, EMBEDDER), CPU).embedder
    assert embedder is not None
    picture = make_picture()

    (vector,) = embedder.embed([picture])

    with torch.inference_mode():
        pixels = embedder.prepare(picture)[None]
        if family == "clip_vision_model":
            features = network(pixel_values=pixels).image_embeds
        else:
            features = network.get_image_features(pixel_values=pixels).pooler_output
    assert vector is not None
    np.testing.assert_allclose(vector, features[0] / features[0].norm(), atol=1e-6)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-6


def test_attributes_are_read_as_the_bundle_says(tmp_path: Path) -> None:
    """A word in the bundle's language with its share, a scaled number, and a mean by shares."""
    write_detector(tmp_path / "detector", "yolos")
    gender = write_classifier(tmp_path / "gender", "Woman", "Man")
    age = write_classifier(tmp_path / "age", "years", seed=1)
    group = write_classifier(tmp_path / "group", "young", "old", seed=2)
    tables = (
        DETECTOR,
        GENDER + 'labels = { Man = "male", Woman = "female" }',
        AGE + "scale = 10.0\noffset = 40.0",
        '[attributes.group]\nmodel = "group"\nkind = "number"\nvalues = { young = 10, old = 70 }',
    )
    attributes = Models.load(write_bundle(tmp_path, *tables), CPU).attributes
    picture = make_picture()

    readings = {name: part.read([picture])[0] for name, part in attributes.items()}

    with torch.inference_mode():
        pixels = attributes["age"].prepare(picture)[None]
        shares = gender(pixel_values=pixels).logits[0].softmax(0)
        groups = group(pixel_values=pixels).logits[0].softmax(0)
        years = float(age(pixel_values=pixels).logits[0, 0])
    best = int(shares.argmax())
    assert readings["gender"].text == ("female", "male")[best]
    assert readings["gender"].score == pytest.approx(float(shares[best]), abs=1e-6)
    assert readings["age"].number == pytest.approx(years * 10 + 40, abs=1e-4)
    assert readings["group"].number == pytest.approx(float(groups @ torch.tensor([10.0, 70.0])))


def test_an_attribute_that_is_unsure_or_out_of_range_gives_no_value(tmp_path: Path) -> None:
    """Nothing is invented: no word below the threshold or without translation, no age of 400."""
    write_detector(tmp_path / "detector", "yolos")
    write_classifier(tmp_path / "gender", "Woman", "Man")
    write_classifier(tmp_path / "age", "years")
    other = GENDER.replace("attributes.gender", "attributes.other")
    tables = (
        DETECTOR,
        GENDER + "threshold = 1.0",
        AGE + "offset = 400.0",
        other + "labels = {}",
    )
    attributes = Models.load(write_bundle(tmp_path, *tables), CPU).attributes

    for part in attributes.values():
        (reading,) = part.read([make_picture()])
        assert (reading.text, reading.score, reading.number) == (None, None, None)
        assert not reading.invalid


def test_what_is_no_number_is_no_value(tmp_path: Path) -> None:
    """NaN in a picture's outputs costs that picture its value, is counted, and nothing else."""
    write_detector(tmp_path / "detector", "rt_detr_v2")
    write_classifier(tmp_path / "gender", "f", "m")
    write_classifier(tmp_path / "age", "years")
    write_embedder(tmp_path / "embedder", "clip")
    models = Models.load(write_bundle(tmp_path, DETECTOR, GENDER, AGE, EMBEDDER), CPU)
    assert models.detector is not None
    assert models.embedder is not None
    picture = make_picture()
    queries = len(models.detector.detect([picture], 0.0)[0].scores)

    networks = [part.network for part in models.attributes.values()]
    for network in (models.detector.network, models.embedder.network, *networks):
        for weight in network.parameters():
            weight.fill_(float("nan"))

    (found,) = models.detector.detect([picture], 0.0)
    assert (len(found.scores), found.invalid) == (0, queries)
    assert [part.read([picture])[0].invalid for part in models.attributes.values()] == [True, True]
    assert models.embedder.embed([picture]) == [None]
    assert look_at(models, [picture])[0].invalid == 0  # nobody is found whom it could embed


def test_a_box_that_is_no_number_is_no_person(tmp_path: Path) -> None:
    """However sure the detector is that there is one."""
    write_rectangle_detector(tmp_path / "detector")
    detector = Models.load(write_bundle(tmp_path, DETECTOR), CPU).detector
    assert detector is not None
    picture = torch.full((3, 64, 64), 110, dtype=torch.uint8)
    picture[:, 16:32, 16:32] = torch.tensor([250, 10, 0])[:, None, None]
    (sound,) = detector.detect([picture], 0.5)

    for weight in detector.network.bbox_predictor.parameters():
        weight.fill_(float("nan"))

    (found,) = detector.detect([picture], 0.5)
    assert (len(sound.scores), sound.invalid) == (1, 0)
    assert (len(found.scores), found.invalid) == (0, 2)  # of both queries


def test_a_crowd_is_cut_to_the_best_two_hundred(tmp_path: Path) -> None:
    """The others are counted."""
    write_detector(tmp_path / "detector", "yolos", "person", tokens=230)
    detector = Models.load(write_bundle(tmp_path, DETECTOR), CPU).detector
    assert detector is not None

    (found,) = detector.detect([make_picture()], 0.0)

    assert (len(found.scores), found.crowded) == (200, 30 - found.invalid)
    assert (np.diff(found.scores) <= 0).all()


def test_a_model_that_does_not_run_is_refused(tmp_path: Path) -> None:
    """Before there is any video: pictures of another size than the model takes."""
    write_embedder(tmp_path / "embedder", "clip")
    settings = tmp_path / "embedder" / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("64", "48"))
    models = Models.load(write_bundle(tmp_path, EMBEDDER), CPU)

    with pytest.raises(BundleError, match="embedder: does not run: Input image size") as refused:
        models.warm(90, 160)

    assert "\n" not in str(refused.value)


def test_what_is_likelier_something_else_is_no_person(tmp_path: Path) -> None:
    """Not even where any score at all is enough."""
    write_detector(tmp_path / "detector", "yolos", "person", "car", tokens=40, seed=1)
    models = Models.load(write_bundle(tmp_path, DETECTOR), CPU)
    assert models.detector is not None

    (found,) = models.detector.detect([make_picture()], 0.0)

    assert 0 < len(found.scores) < 40
    assert found.scores.min() > 0


def test_pictures_of_several_sizes(tmp_path: Path) -> None:
    """Where a model keeps the ratio, those of one shape share batches, and find back."""
    write_detector(tmp_path / "detector", "yolos", "person")
    detector = Models.load(write_bundle(tmp_path, DETECTOR), CPU, batch_size=2).detector
    assert detector is not None
    sizes = [(90, 160), (160, 90), (90, 160), (64, 64), (90, 160)]
    pictures = [make_picture(*size, seed=at) for at, size in enumerate(sizes)]

    together = detector.detect(pictures, 0.0)

    for picture, found in zip(pictures, together, strict=True):
        (alone,) = detector.detect([picture], 0.0)
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """By the size of its weights, before the memory is gone."""
    write_embedder(tmp_path / "embedder", "clip")
    bundle = write_bundle(tmp_path, EMBEDDER)
    with (tmp_path / "embedder" / "model.safetensors").open("ab") as weights:
        weights.truncate(1 << 42)  # sparse: it takes no room

    with pytest.raises(BundleError, match="embedder: its weights are 4398046511104 bytes, cpu has"):
        Models.load(bundle, CPU)


def test_weights_of_half_the_bits_take_twice_their_file(tmp_path: Path) -> None:
    """They are loaded in float32: what fits as a file may not fit then."""
    write_embedder(tmp_path / "embedder", "clip")
    bundle = write_bundle(tmp_path, EMBEDDER)
    path = tmp_path / "embedder" / "model.safetensors"
    weights = load_file(path)
    numbers = sum(each.numel() for each in weights.values())
    before = bundle.size_bytes("embedder")

    save_file({name: each.bfloat16() for name, each in weights.items()}, path, {"format": "pt"})

    assert path.stat().st_size < 3 * numbers
    assert bundle.size_bytes("embedder") == 4 * numbers
    assert before == pytest.approx(4 * numbers, rel=0.1)


@pytest.mark.parametrize(
    ("limit", "free"), [("1000000", 700_000), ("max", None), ("200000", 0), (None, None)]
)
def test_a_container_has_less_memory_than_its_host(
    tmp_path: Path, limit: str | None, free: int | None
) -> None:
    """What counts is its own limit, less what it uses; files that were read give way."""
    (tmp_path / "memory.current").write_text("450000\n")
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 100000\ninactive_file 50000\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")

    found = free_bytes(CPU, tmp_path)

    assert found > 1 << 20 if free is None else found == free


def test_batch_mates_change_no_bit(tmp_path: Path) -> None:
    """Each picture alone, and among others: the same numbers."""
    write_detector(tmp_path / "detector", "rt_detr_v2")
    write_classifier(tmp_path / "gender", "f", "m")
    write_embedder(tmp_path / "embedder", "clip")
    bundle = write_bundle(tmp_path, DETECTOR, GENDER, EMBEDDER)
    models = Models.load(bundle, CPU, batch_size=4)
    assert models.detector is not None
    assert models.embedder is not None
    pictures = [make_picture(seed=seed) for seed in range(6)]

    together = (
        models.detector.detect(pictures, 0.0),
        models.attributes["gender"].read(pictures),
        models.embedder.embed(pictures),
    )

    for at, picture in enumerate(pictures):
        (alone,) = models.detector.detect([picture], 0.0)
        np.testing.assert_array_equal(together[0][at].boxes, alone.boxes)
        np.testing.assert_array_equal(together[0][at].scores, alone.scores)
        assert together[1][at] == models.attributes["gender"].read([picture])[0]
        np.testing.assert_array_equal(together[2][at], models.embedder.embed([picture])[0])


def test_every_batch_has_one_size() -> None:
    """Filled up, where there are fewer pictures of a shape; and what fills it gives no result.

    Of each batch it is told before.
    """
    shapes = [(1, 1, 1), (1, 2, 1), (1, 1, 1), (1, 1, 1)]
    pictures = [torch.full(shape, float(at)) for at, shape in enumerate(shapes)]
    steps = list[object]()
    size = BatchSize(4, lambda: steps.append("told"))

    def run(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        steps.append(tuple(batch.shape))
        return (batch[:, 0, 0, 0],)

    later = start(pictures, size, run)

    assert [float(result) for (result,) in later()] == [0, 1, 2, 3]
    assert steps == ["told", (4, 1, 1, 1), "told", (4, 1, 2, 1)]
    assert start([], size, run)() == []


def _write_preparation(directory: Path, **changes: object) -> None:
    said = {"size": {"height": 8, "width": 8}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (directory / "preprocessor_config.json").write_text(json.dumps(said | changes))


def _rewrite_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _spoil_weights(directory: Path, name: str, value: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    found = next(key for key in weights if name in key)
    del weights[found]
    save_file(weights if value is None else weights | {found: value}, path, {"format": "pt"})


SPOILT = {
    "backbone that is elsewhere": (
        lambda d: _rewrite_config(d, model_type="rt_detr", backbone="a/b", backbone_config=None),
        "attributes.gender: does not load",
    ),
    "no such model": (
        lambda d: _rewrite_config(d, model_type="tvrage"),
        "attributes.gender: does not load",
    ),
    "no weights": (
        lambda d: (d / "model.safetensors").write_bytes(b"\x80\x04pickled"),
        "attributes.gender: does not load",
    ),
    "weights are missing": (
        lambda d: _spoil_weights(d, "classifier.weight", None),
        "attributes.gender: 1 weights are missing, such as classifier.weight",
    ),
    "weights of another shape": (
        lambda d: _spoil_weights(d, "classifier.weight", torch.zeros(5, 16)),
        "attributes.gender: 1 weights have another shape than its config.json says",
    ),
    "no preparation": (
        lambda d: (d / "preprocessor_config.json").unlink(),
        "gender/preprocessor_config.json: is missing",
    ),
    "a size of no kind": (
        lambda d: _write_preparation(d, size=[224, 224]),
        "attributes.gender: gender/preprocessor_config.json: AttributeError: ",
    ),
    "a size without end": (
        lambda d: _write_preparation(d, size={"height": float("inf"), "width": 8}),
        "OverflowError: cannot convert float infinity",
    ),
    "a mean that is no number": (
        lambda d: _write_preparation(d, image_mean=[float("nan"), 0, 0]),
        "are not three numbers",
    ),
    "nothing to divide by": (
        lambda d: _write_preparation(d, image_std=[0, 1, 1]),
        "nothing can be divided by 0",
    ),
    "nearest neighbour": (
        lambda d: (d / "preprocessor_config.json").write_text('{"resample": 0, "size": 8}'),
        "resample 0 is none of",
    ),
    "padding": (
        lambda d: hf.YolosImageProcessorPil(pad_size={"height": 99, "width": 99}).save_pretrained(
            d
        ),
        "do_resize must be true, and pad_size not set",
    ),
    "no fixed size": (
        lambda d: hf.YolosImageProcessorPil().save_pretrained(d),
        "attributes.gender: needs a size",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=SPOILT.keys())
def test_what_does_not_load_is_refused_in_one_line(tmp_path: Path, spoil: Any, said: str) -> None:
    """Sealed as it is, but no model that can be trusted to be the one that was meant."""
    write_detector(tmp_path / "detector", "yolos")
    write_classifier(tmp_path / "gender", "f", "m")
    spoil(tmp_path / "gender")
    bundle = write_bundle(tmp_path, DETECTOR, GENDER)

    with pytest.raises(BundleError) as caught:
        Models.load(bundle, CPU)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_detector_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    """Its outputs would be read wrongly."""
    backbone = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], out_features=["stage2"]
    )
    config = hf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=4,
        **names("person", "car"),
    )  # fmt: skip
    hf.DetrForObjectDetection(config).save_pretrained(tmp_path / "detector")

    with pytest.raises(BundleError, match="detector: detr is not known; known are d_fine"):
        Models.load(write_bundle(tmp_path, DETECTOR), CPU)


def test_an_embedder_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    """Its outputs would be read wrongly."""
    write_classifier(tmp_path / "embedder", "f", "m")

    with pytest.raises(BundleError, match="embedder: vit is not known; known are clip"):
        Models.load(write_bundle(tmp_path, EMBEDDER), CPU)


def test_without_the_packages_it_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service itself does not need them."""
    write_embedder(tmp_path / "embedder", "clip")
    bundle = write_bundle(tmp_path, EMBEDDER)
    monkeypatch.setitem(sys.modules, "transformers", None)  # what Python does not find

    with pytest.raises(BundleError, match=r"transformers: pip install 'video-poller\[models\]'"):
        Models.load(bundle, CPU)


def test_the_command_says_what_is_in_a_bundle(tmp_path: Path) -> None:
    """Sealed, loaded and run once; exit 0, or 2 and one line when a byte has changed."""
    write_detector(tmp_path / "detector", "rt_detr_v2")
    write_classifier(tmp_path / "gender", "f", "m")
    write_classifier(tmp_path / "age", "years")
    write_embedder(tmp_path / "embedder", "clip")
    write_bundle(tmp_path, DETECTOR, GENDER, AGE, EMBEDDER)

    sealed = run_poller({}, "bundle", "seal", str(tmp_path))
    good = run_poller({}, "bundle", "check", str(tmp_path), "--json")
    with (tmp_path / "age" / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    bad = run_poller({}, "bundle", "check", str(tmp_path))

    assert (sealed.returncode, good.returncode, bad.returncode) == (0, 0, 2)
    assert sealed.stdout.startswith("12 files are listed")
    report = json.loads(good.stdout)
    assert report["loads"]
    assert report["parts"]["detector"]["model"] == "rt_detr_v2"
    assert report["parts"]["attributes.gender"]["gives"] == "f or m"
    assert report["parts"]["embedder"]["numbers"] == 24
    assert good.stderr == ""
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1
    assert "age/model.safetensors: has sha256" in bad.stderr
    assert f"poller bundle seal {tmp_path}`" in bad.stderr


async def test_a_detector_that_is_made_for_larger_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, with what to set; nothing is said once that is set."""
    write_detector(tmp_path / "detector", "yolos")
    prepared = tmp_path / "detector" / "preprocessor_config.json"
    said = json.loads(prepared.read_text())
    prepared.write_text(json.dumps(said | {"size": {"shortest_edge": 300, "longest_edge": 512}}))
    write_bundle(tmp_path, DETECTOR)

    await check(str(tmp_path), "cpu", as_json=False)
    small = capsys.readouterr().out
    manifest = tmp_path / "bundle.toml"
    manifest.write_text(f"frame_side = 512\n{manifest.read_text()}")
    await check(str(tmp_path), "cpu", as_json=False)
    large = capsys.readouterr().out

    assert "frames have 256 pixels" in small
    assert "the detector is made for 512; set frame_side = 512" in small
    assert "persons are missed" not in large
    assert "frames have up to 512 pixels on the longer side (frame_side), made for 512" in large


@pytest.mark.parametrize(
    ("fps", "pause_ms", "said"),
    [
        (2.5, 400, "looks at 2.5 frames a second at most, about 400 ms from one to the next"),
        (None, None, "looks at each frame that is analysed (detector.fps is not set)"),
    ],
)
async def test_how_often_the_detector_looks_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fps: float | None,
    pause_ms: int | None,
    said: str,
) -> None:
    """In its one line, with the names of what changes it, and as numbers for scripts."""
    write_detector(tmp_path / "detector", "yolos")
    write_bundle(tmp_path, DETECTOR + ("" if fps is None else f"fps = {fps}\n"))

    await check(str(tmp_path), "cpu", as_json=False)
    _, line, _ = capsys.readouterr().out.split("\n", 2)
    await check(str(tmp_path), "cpu", as_json=True)
    part = json.loads(capsys.readouterr().out)["parts"]["detector"]

    assert said in line
    assert "frames have up to 256 pixels on the longer side (frame_side)" in line
    assert (part["fps"], part["pause_ms"], part["frame_side"]) == (fps, pause_ms, 256)

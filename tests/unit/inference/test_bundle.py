"""What a bundle must be before anything of it is loaded."""

import json
import pickle
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.bundle import Bundle, read_bundle, seal_bundle
from inference.manifest import BundleError, DetectorPart, TrackerPart, parse_manifest

MANIFEST = """\
name = "people"
version = "2"
# Words of the owner stay.
[detector]
model = "detector"
labels = ["person"]
[attributes.gender]
model = "gender"
kind = "label"
threshold = 0.6
labels = { Man = "male", Woman = "female" }
[attributes.age]
model = "age"
kind = "number"
"""
ID2LABEL = {
    "detector": {"0": "person", "1": "car"},
    "gender": {"0": "Woman", "1": "Man"},
    "age": {"0": "years"},
}


def make_bundle(root: Path, manifest: str = MANIFEST) -> Path:
    """A sealed bundle whose weights are a few bytes: nothing here loads them."""
    for model, labels in ID2LABEL.items():
        (root / model).mkdir()
        (root / model / "config.json").write_text(json.dumps({"id2label": labels}))
        (root / model / "model.safetensors").write_bytes(model.encode())
    (root / "bundle.toml").write_text(manifest)
    seal_bundle(root)
    return root


def rewrite(root: Path, old: str, new: str) -> None:
    """Change the manifest by hand."""
    path = root / "bundle.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_sealed_bundle_is_read(tmp_path: Path) -> None:
    """Its parts and their numbers are what the manifest says; what it leaves out is usual."""
    bundle = read_bundle(make_bundle(tmp_path))

    said = bundle.manifest
    assert bundle.title == "people-2"
    assert said.models() == {
        "detector": "detector",
        "attributes.gender": "gender",
        "attributes.age": "age",
    }
    assert said.detector is not None
    assert (said.detector.threshold, said.tracking.low) == (0.5, 0.1)
    assert said.attributes["gender"].threshold == 0.6
    assert bundle.size_bytes("detector") == len(b"detector")
    assert len(said.files) == 6


def test_sealing_again_changes_nothing_but_the_sums(tmp_path: Path) -> None:
    """What its owner wrote stays, also behind the table; a new file gets its line."""
    root = make_bundle(tmp_path)
    path = root / "bundle.toml"
    before = path.read_text()
    path.write_text(before + "\n[tracker]\nlow = 0.2\n")

    (root / "gender" / "README.md").write_text("new")
    count = seal_bundle(root)
    first = path.read_text()
    seal_bundle(root)

    assert count == 7
    assert path.read_text() == first
    assert "# Words of the owner stay." in first
    assert first.count("[files]") == 1
    assert read_bundle(root).manifest.tracking.low == 0.2


def _write_index(root: Path, file: object) -> None:
    weights = root / "age" / "model.safetensors"
    weights.rename(root / "age" / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": file}}
    (root / "age" / "model.safetensors.index.json").write_text(json.dumps(index))
    seal_bundle(root)


def _tie(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _replace(path: Path, target: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    target.write_bytes(content)
    path.symlink_to(target)


def _set_config(root: Path, config: object) -> None:
    (root / "gender" / "config.json").write_text(json.dumps(config))
    seal_bundle(root)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda r: (r / "bundle.toml").unlink(), "bundle.toml: No such file"),
    "no TOML": (lambda r: (r / "bundle.toml").write_text("name ="), "bundle.toml: Invalid value"),
    "no UTF-8": (lambda r: (r / "bundle.toml").write_bytes(b"\xff"), "bundle.toml: 'utf-8'"),
    "huge": (lambda r: (r / "bundle.toml").write_bytes(b" " * (1 << 21)), "is larger than"),
    "no name": (lambda r: rewrite(r, 'name = "people"', ""), "name: field required"),
    "name is a path": (
        lambda r: rewrite(r, '"people"', '"../people"'),
        "name: string should match",
    ),
    "no parts": (
        lambda r: (r / "bundle.toml").write_text('name = "n"\nversion = "1"'),
        "has no part with a model",
    ),
    "version is a number": (lambda r: rewrite(r, '"2"', "2"), "version: input should be a valid"),
    "unknown part": (lambda r: rewrite(r, "[detector]", "[detektor]"), "detektor: no such part"),
    "unknown word": (
        lambda r: rewrite(r, "threshold = 0.6", "treshold = 0.6"),
        "attributes.gender.treshold: unknown",
    ),
    "threshold above 1": (
        lambda r: rewrite(r, "0.6", "60"),
        "attributes.gender.threshold: input should be less",
    ),
    "threshold is no number": (
        lambda r: rewrite(r, "0.6", "nan"),
        "attributes.gender.threshold: input should be",
    ),
    "built-in name": (lambda r: rewrite(r, '"people"', '"builtin"'), "builtin is what is built in"),
    "built-in vectors' name": (
        lambda r: rewrite(r, '"people"', '"dct-hog"'),
        "name: dct-hog is what is built in",
    ),
    "version with a dash": (lambda r: rewrite(r, '"2"', '"2-1"'), "version: string should match"),
    "intervals of a number": (
        lambda r: rewrite(r, 'kind = "number"', 'kind = "number"\nintervals = true'),
        "attributes.age.intervals: not of kind number",
    ),
    "intervals under another event's name": (
        lambda r: rewrite(
            r,
            "[attributes.gender]",
            '[attributes.shot]\nmodel = "gender"\nkind = "label"\n'
            "intervals = true\n\n[attributes.gender]",
        ),
        "attributes.shot.intervals: shot events are something else: give it another name",
    ),
    "no number between": (
        lambda r: rewrite(r, 'kind = "number"', 'kind = "number"\nminimum = 150.0'),
        "attributes.age.minimum: 150 is not below its maximum",
    ),
    "one number for all": (
        lambda r: rewrite(r, 'kind = "number"', 'kind = "number"\nscale = 0.0'),
        "attributes.age.scale: with 0 everything is the same number",
    ),
    "age in words": (lambda r: rewrite(r, '"number"', '"label"'), "age.kind: must be number"),
    "values of words": (
        lambda r: rewrite(r, "threshold = 0.6", "values = { Man = 1.0 }"),
        "attributes.gender.values: not of kind label",
    ),
    "attributes alone": (
        lambda r: rewrite(r, '[detector]\nmodel = "detector"\nlabels = ["person"]', ""),
        "attributes: needs a detector",
    ),
    "low above high": (
        lambda r: rewrite(r, "[files]", "[tracker]\nlow = 0.7\n[files]"),
        "tracker.low: 0.7 is above detector.threshold, 0.5: set",
    ),
    "never": (
        lambda r: rewrite(r, 'labels = ["person"]', 'labels = ["person"]\nfps = 0.0'),
        "detector.fps: input should be greater than 0",
    ),
    "smaller than is measured": (
        lambda r: rewrite(r, "name = ", "frame_side = 128\nname = "),
        "frame_side: input should be greater than or equal to 256",
    ),
    "absolute path": (
        lambda r: rewrite(r, 'model = "gender"', 'model = "/etc"'),
        "attributes.gender.model: leads out",
    ),
    "path upwards": (
        lambda r: rewrite(r, 'model = "gender"', 'model = "gender/../../gender"'),
        "attributes.gender.model: leads out",
    ),
    "file upwards": (
        lambda r: rewrite(r, '"age/config.json"', '"../age/config.json"'),
        "leads out of the bundle",
    ),
    "path in other words": (
        lambda r: rewrite(r, 'model = "gender"', 'model = "./gender"'),
        "attributes.gender.model: is written gender",
    ),
    "sum is no sum": (
        lambda r: rewrite(r, '[files]\n"age/config.json" = "', '[files]\n"age/config.json" = "x'),
        "files.age/config.json: string should match",
    ),
    "altered weights": (
        lambda r: (r / "age" / "model.safetensors").write_bytes(b"agf"),
        "age/model.safetensors: has sha256",
    ),
    "missing file": (
        lambda r: (r / "age" / "model.safetensors").unlink(),
        "age/model.safetensors: is missing",
    ),
    "missing directory": (
        lambda r: rewrite(r, 'model = "gender"', 'model = "genders"'),
        "attributes.gender: the directory genders is missing",
    ),
    "file that nobody listed": (
        lambda r: (r / "age" / "generation_config.json").write_text("{}"),
        "age/generation_config.json: is not in [files]",
    ),
    "pickle": (
        lambda r: (r / "age" / "pytorch_model.bin").write_bytes(pickle.dumps(1)),
        "age/pytorch_model.bin: may not be in a bundle",
    ),
    "name with a line break": (
        lambda r: (r / "age" / "model\n.bin").write_bytes(b""),
        "age/model .bin: may not be in a bundle",
    ),
    "listed pickle": (
        lambda r: rewrite(r, "[files]", f'[files]\n"evil.pt" = "{"0" * 64}"'),
        "evil.pt: may not be in a bundle",
    ),
    "code": (
        lambda r: (r / "age" / "modeling.py").write_text("print(1)"),
        "age/modeling.py: may not be in a bundle",
    ),
    "adapter": (
        lambda r: (r / "age" / "adapter_config.json").write_text("{}"),
        "age/adapter_config.json: an adapter",
    ),
    "link outwards": (
        lambda r: _replace(r / "age" / "config.json", r.parent / "elsewhere.json"),
        "age/config.json: leads out of the bundle",
    ),
    "code by name": (
        lambda r: _set_config(r, {"auto_map": {"AutoModel": "x--y"}}),
        "gender/config.json: wants to run code",
    ),
    "code by name in a part": (
        lambda r: _set_config(r, {"vision_config": {"auto_map": {"AutoModel": "x--y"}}}),
        "gender/config.json: wants to run code",
    ),
    "attention from elsewhere": (
        lambda r: _set_config(r, {"parts": [{"_attn_implementation": "owner/kernels"}]}),
        "gender/config.json: wants to run code",
    ),
    "weights from elsewhere": (
        lambda r: _set_config(r, {"transformers_weights": "../../other.safetensors"}),
        "gender/config.json: transformers_weights: weights are in",
    ),
    "backbone from elsewhere": (
        lambda r: _set_config(r, {"backbone": "a/b", "use_pretrained_backbone": True}),
        "gender/config.json: use_pretrained_backbone: weights are in",
    ),
    "config is a list": (lambda r: _set_config(r, []), "gender/config.json: is not a JSON object"),
    "labels by no number": (
        lambda r: _set_config(r, {"id2label": {"first": "Man"}}),
        "gender/config.json: id2label: invalid literal for int()",
    ),
    "index of no files": (
        lambda r: _write_index(r, ["b"]),
        "age/model.safetensors.index.json: has no weight_map of files",
    ),
    "link to itself": (
        lambda r: _tie(r / "age" / "config.json"),
        "age/config.json: Symlink loop",
    ),
    "another label": (
        lambda r: _set_config(r, {"id2label": {"0": "F", "1": "M"}}),
        "attributes.gender: the model has no label 'Man'; it has F, M",
    ),
    "person by another name": (
        lambda r: rewrite(r, '["person"]', '["people"]'),
        "detector: the model has no label 'people'; it has car, person",
    ),
    "value for no label": (
        lambda r: rewrite(r, 'kind = "number"', 'kind = "number"\nvalues = { old = 70.0 }'),
        "attributes.age: the model has no label 'old'",
    ),
    "label without value": (
        lambda r: rewrite(r, 'kind = "number"', 'kind = "number"\nvalues = {}'),
        "attributes.age.values: lacks the model's label 'years'",
    ),
    "index to an unlisted file": (
        lambda r: _write_index(r, "../../x.safetensors"),
        "names ../../x.safetensors, which is not in [files]",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    """One thing is spoilt in a good bundle; the line names it."""
    root = tmp_path / "bundle"
    root.mkdir()
    make_bundle(root)

    spoil(root)

    with pytest.raises(BundleError) as caught:
        read_bundle(root)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_may_lie_in_several_files(tmp_path: Path) -> None:
    """If the index names no other than those that are listed."""
    make_bundle(tmp_path)

    _write_index(tmp_path, "model-00001-of-00002.safetensors")

    assert isinstance(read_bundle(tmp_path), Bundle)


def test_a_number_needs_one_output_or_values(tmp_path: Path) -> None:
    """Two outputs and no word on what they are worth could mean anything."""
    make_bundle(tmp_path)
    (tmp_path / "age" / "config.json").write_text("{}")
    seal_bundle(tmp_path)

    with pytest.raises(BundleError, match="age: the model has 2 outputs, and no values"):
        read_bundle(tmp_path)


def test_what_no_bundle_may_hold_is_not_sealed(tmp_path: Path) -> None:
    """A pickle would be refused later; better to hear of it now, with the manifest as it was."""
    root = make_bundle(tmp_path)
    before = (root / "bundle.toml").read_text()
    (root / "age" / "training_args.bin").write_bytes(b"")

    with pytest.raises(BundleError, match=r"training_args\.bin: may not be"):
        seal_bundle(root)
    assert (root / "bundle.toml").read_text() == before


FILES = "[files]\n"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  [files]  # sums\n  'a' = 'b'\n\n", ""),
        ("[files]\n# mine\n'a' = 'b'\n# mine, too\n", "# mine\n# mine, too\n"),
        ("", ""),
    ],
    ids=["indented", "comments", "none"],
)
def test_sealing_again_changes_the_sums_alone(tmp_path: Path, written: str, kept: str) -> None:
    """However the table was written; what the owner wrote in it stays."""
    root = make_bundle(tmp_path)
    path = root / "bundle.toml"
    own = path.read_text().partition(FILES)[0]
    path.write_text(own + written)

    seal_bundle(root)

    assert path.read_text().partition(FILES)[0].rstrip("\n") == (own + kept).rstrip("\n")
    assert isinstance(read_bundle(root), Bundle)


def test_what_cannot_be_sealed_stays_as_it_is(tmp_path: Path) -> None:
    """Where the table is written so that it is not found, nothing is written over."""
    root = make_bundle(tmp_path)
    path = root / "bundle.toml"
    own = "files = {}\n" + path.read_text().partition(FILES)[0]
    path.write_text(own)

    with pytest.raises(BundleError, match="remove what it says of `files`, and seal it again"):
        seal_bundle(root)

    assert path.read_text() == own


def test_hidden_files_are_left_alone(tmp_path: Path) -> None:
    """Download tools leave their notes there; no loader reads them."""
    root = make_bundle(tmp_path)
    (root / "age" / ".cache").mkdir()
    (root / "age" / ".cache" / "lock.bin").write_bytes(b"")

    assert isinstance(read_bundle(root), Bundle)


def test_the_documents_example_is_a_manifest() -> None:
    """With the defaults that it names."""
    text = (Path(__file__).parents[3] / "docs" / "bundles.md").read_text("utf-8")
    example = text.split("```toml\n")[1].split("```")[0]

    manifest = parse_manifest(tomllib.loads(example))

    assert manifest.tracker == TrackerPart()
    assert manifest.detector is not None
    assert manifest.detector == DetectorPart(model="detector", labels=["person"])
    assert manifest.models().keys() == {
        "detector",
        "attributes.gender",
        "attributes.age",
        "attributes.action",
        "embedder",
    }
    assert manifest.stretched == {"action"}

"""Reads and verifies a model bundle; knows neither torch nor transformers.

Nothing of a bundle is loaded before all of it is verified: each file that a loader could look at is
listed with its SHA-256 in `bundle.toml`, none of them can hold code, and no path leads outside.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as InvalidError

MANIFEST = "bundle.toml"
SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".md", ".model"})
"""What a model directory may hold: weights as plain numbers, and text. No pickle, no code."""
PARTS = ("detector", "tracker", "attributes", "embedder")
_MANIFEST_BYTES = 1 << 20
_CONFIG_BYTES = 16 << 20
_FILES_TABLE = re.compile(r"^\[files\][^\n]*\n(?:(?!\s*\[)[^\n]*(?:\n|\Z))*", re.MULTILINE)


class BundleError(Exception):
    """The bundle cannot be used; the message is one line that says what is wrong with what."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # also where a file's name has line breaks


def _plain_path(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or not path.parts:
        raise ValueError("leads out of the bundle")
    if str(path) != text:
        raise ValueError(f"is written {path}")
    return text


_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Path = Annotated[str, AfterValidator(_plain_path)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DetectorPart(_Part):
    """Object detection: which of the model's labels is a person, from which score on."""

    model: _Path
    labels: Annotated[list[str], Field(min_length=1)]
    threshold: _Share = 0.5
    """Of what may begin a track; the tracker's `low` is enough to go on with one."""


class TrackerPart(_Part):
    """ByteTrack's numbers, with its times in seconds instead of frames."""

    low: _Share = 0.1
    """Score from which a detection may go on with a track that would else be lost."""
    overlap: _Share = 0.2
    """Least IoU, weighted by the score, of a detection and the track it goes on with."""
    keep_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """How long a track lives without a detection."""


class AttributePart(_Part):
    """Image classification or regression on crops of persons."""

    model: _Path
    kind: Literal["label", "number"]
    threshold: _Share = 0.0
    """Of kind `label`: below this score there is no value."""
    labels: dict[str, str] | None = None
    """Of kind `label`: the model's word to the word that is stored; None: as they are."""
    values: dict[str, float] | None = None
    """Of kind `number`: what each of the model's labels is worth; None: it has one output."""
    scale: float = 1.0
    offset: float = 0.0
    minimum: float = 0.0
    maximum: float = 150.0
    """A number outside is no value."""


class EmbedderPart(_Part):
    """The vision tower of CLIP or SigLIP."""

    model: _Path


class Manifest(_Part):
    """What `bundle.toml` says."""

    name: _Word
    version: _Word
    detector: DetectorPart | None = None
    tracker: TrackerPart | None = None
    attributes: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")], AttributePart
    ] = Field(default_factory=dict)
    embedder: EmbedderPart | None = None
    files: dict[_Path, Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]] = Field(
        default_factory=dict
    )

    @property
    def tracking(self) -> TrackerPart:
        """The tracker's numbers, said or not."""
        return self.tracker or TrackerPart()

    def models(self) -> dict[str, str]:
        """The model directory of each part that has one, by the part's name."""
        parts: dict[str, DetectorPart | AttributePart | EmbedderPart | None] = {
            "detector": self.detector,
            **{f"attributes.{name}": part for name, part in self.attributes.items()},
            "embedder": self.embedder,
        }
        return {name: part.model for name, part in parts.items() if part is not None}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle on the local disk."""

    root: Path
    manifest: Manifest

    @property
    def title(self) -> str:
        """Name and version: what results are known by."""
        return f"{self.manifest.name}-{self.manifest.version}"

    def directory(self, model: str) -> Path:
        """Where a part's model lies."""
        return self.root / model

    def size_bytes(self, model: str) -> int:
        """Size of a model's weights on the disk."""
        return sum(path.stat().st_size for path in self.directory(model).rglob("*.safetensors"))


def read_bundle(root: Path) -> Bundle:
    """Read a bundle and verify every byte of it.

    Raises:
        BundleError: it is incomplete, altered, contradicts itself, or wants to run code.
    """
    manifest = _read_manifest(_read_document(root))
    for path, digest in manifest.files.items():
        _verify(root, path, digest)
    for part, model in manifest.models().items():
        for path in _files_of(root, part, model):
            if path not in manifest.files:
                raise BundleError(f"{path}: is not in [files]; `poller bundle seal` lists it")
        _check_weights(root, model, manifest)
        _check_config(root, part, model, manifest)
    return Bundle(root, manifest)


def seal_bundle(root: Path) -> int:
    """Write the SHA-256 of each file of the bundle's models into `bundle.toml`; return how many.

    Raises:
        BundleError: `bundle.toml` is wrong, or a model directory holds what no bundle may hold.
    """
    document = _read_document(root)
    document.pop("files", None)
    manifest = _read_manifest(document)
    paths = sorted(
        {path for part, model in manifest.models().items() for path in _files_of(root, part, model)}
    )
    lines = [f"{json.dumps(path)} = {json.dumps(_digest(_inside(root, path)))}" for path in paths]
    target = root / MANIFEST
    text = _FILES_TABLE.sub("", target.read_text("utf-8")).rstrip("\n")
    unfinished = target.with_suffix(".toml.new")
    unfinished.write_text("\n".join([text, "", "[files]", *lines, ""]), "utf-8")
    unfinished.replace(target)
    return len(paths)


def labels_of(config: Mapping[str, Any]) -> dict[int, str]:
    """A model's labels by the index of its output, as transformers reads them."""
    named = config.get("id2label")
    if isinstance(named, dict):
        return {int(index): str(label) for index, label in named.items()}
    return {index: f"LABEL_{index}" for index in range(2)}


def _read_document(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if len(content) > _MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST}: is larger than {_MANIFEST_BYTES} bytes")
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # of the encoding too
        raise BundleError(f"{MANIFEST}: {error}") from error


def _read_manifest(document: dict[str, Any]) -> Manifest:
    try:
        manifest = Manifest.model_validate(document)
    except InvalidError as error:
        raise BundleError(f"{MANIFEST}: {_first_fault(error)}") from error
    _check_parts(manifest)
    return manifest


def _first_fault(error: InvalidError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(step) for step in fault["loc"] if step != "[key]")
    if fault["type"] == "extra_forbidden":
        parts = ", ".join(PARTS)
        return f"{where}: unknown" if "." in where else f"{where}: no such part; parts are {parts}"
    text = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {text[0].lower()}{text[1:]}"


def _check_parts(manifest: Manifest) -> None:
    if not manifest.models():
        raise BundleError(f"{MANIFEST}: has no part with a model")
    if manifest.detector is None:
        for name in ("tracker", "attributes"):
            if getattr(manifest, name):
                raise BundleError(f"{MANIFEST}: {name}: needs a detector, whose boxes it reads")
    elif manifest.tracking.low > manifest.detector.threshold:
        raise BundleError(f"{MANIFEST}: tracker.low: is above detector.threshold")
    for name, kind in (("age", "number"), ("gender", "label")):
        part = manifest.attributes.get(name)
        if part is not None and part.kind != kind:
            raise BundleError(f"{MANIFEST}: attributes.{name}.kind: must be {kind}")
    for name, part in manifest.attributes.items():
        wrong = "values" if part.kind == "label" else "labels"
        if getattr(part, wrong) is not None:
            raise BundleError(f"{MANIFEST}: attributes.{name}.{wrong}: not of kind {part.kind}")


def _inside(root: Path, path: str) -> Path:
    """Follow links, but not out of the bundle."""
    full = (root / path).resolve()
    if not full.is_relative_to(root.resolve()):
        raise BundleError(f"{path}: leads out of the bundle")
    return full


def _verify(root: Path, path: str, digest: str) -> None:
    full = _inside(root, path)
    _check_suffix(path)
    if not full.is_file():
        raise BundleError(f"{path}: is missing")
    found = _digest(full)
    if found != digest:
        raise BundleError(f"{path}: has sha256 {found[:12]}…, and not {digest[:12]}…")


def _check_suffix(path: str) -> None:
    if PurePosixPath(path).suffix not in SUFFIXES:
        raise BundleError(f"{path}: may not be in a bundle; weights must be .safetensors")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_of(root: Path, part: str, model: str) -> list[str]:
    """Every file in a model's directory, relative to the bundle, without hidden ones."""
    if not _inside(root, model).is_dir():
        raise BundleError(f"{part}: the directory {model} is missing")
    paths = [path.relative_to(root).as_posix() for path in _walk(root / model)]
    for path in paths:
        _check_suffix(path)
        _inside(root, path)
    if f"{model}/config.json" not in paths:
        raise BundleError(f"{model}/config.json: is missing")
    if f"{model}/adapter_config.json" in paths:
        raise BundleError(f"{model}/adapter_config.json: an adapter is no whole model")
    if not any(path.endswith(".safetensors") for path in paths):
        raise BundleError(f"{model}/model.safetensors: is missing")
    return paths


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _check_weights(root: Path, model: str, manifest: Manifest) -> None:
    """Weights in several files: the index may name none but those that were verified."""
    path = f"{model}/model.safetensors.index.json"
    if path not in manifest.files:
        if f"{model}/model.safetensors" not in manifest.files:
            raise BundleError(f"{model}/model.safetensors: is missing")
        return
    weights = read_json(root / path, path).get("weight_map")
    if not isinstance(weights, dict):
        raise BundleError(f"{path}: has no weight_map")
    for file in set(weights.values()):
        if f"{model}/{file}" not in manifest.files:
            raise BundleError(f"{path}: names {file}, which is not in [files]")


def _check_config(root: Path, part: str, model: str, manifest: Manifest) -> None:
    path = f"{model}/config.json"
    config = read_json(root / path, path)
    if "auto_map" in config:
        raise BundleError(f"{path}: wants to run code of its own (auto_map)")
    labels = set(labels_of(config).values())
    for label in _labels_wanted(part, manifest):
        if label not in labels:
            raise BundleError(f"{part}: the model has no label {label!r}; it has {_some(labels)}")
    if not part.startswith("attributes."):
        return
    attribute = manifest.attributes[part.removeprefix("attributes.")]
    if attribute.values is not None and (lacking := labels - set(attribute.values)):
        raise BundleError(f"{part}.values: lacks the model's label {min(lacking)!r}")
    if attribute.kind == "number" and attribute.values is None and len(labels) != 1:
        raise BundleError(f"{part}: the model has {len(labels)} outputs, and no values for them")


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object of a model directory.

    Raises:
        BundleError: it is none, named as `name`.
    """
    if not path.is_file() or path.stat().st_size > _CONFIG_BYTES:
        raise BundleError(f"{name}: is missing, or larger than {_CONFIG_BYTES} bytes")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"{name}: is not a JSON object")
    return document


def _labels_wanted(part: str, manifest: Manifest) -> list[str]:
    if part == "detector" and manifest.detector is not None:
        return manifest.detector.labels
    attribute = manifest.attributes.get(part.removeprefix("attributes."))
    return [] if attribute is None else [*(attribute.labels or {}), *(attribute.values or {})]


def _some(labels: set[str]) -> str:
    shown = sorted(labels)[:5]
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return ", ".join(shown) + more

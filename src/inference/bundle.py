"""Reads and verifies a model bundle; knows neither torch nor transformers.

Nothing of a bundle is loaded before all of it is verified: each file that a loader could look at is
listed with its SHA-256 in `bundle.toml`, none of them can hold code, and no path leads outside.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from inference.manifest import MANIFEST, BundleError, Manifest, UnsealedError, parse_manifest

SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".md", ".model"})
"""What a model directory may hold: weights as plain numbers, and text. No pickle, no code."""
_ELSEWHERE = frozenset({"transformers_weights", "use_pretrained_backbone", "quantization_config"})
"""What in a `config.json` sends transformers to other files, or to packages that unpack weights."""
_MANIFEST_BYTES = 1 << 20
_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle on the local disk."""

    root: Path
    manifest: Manifest

    @property
    def title(self) -> str:
        """Name and version: what results are known by."""
        return self.manifest.title

    def directory(self, model: str) -> Path:
        """Where a part's model lies."""
        return self.root / model

    def size_bytes(self, model: str) -> int:
        """Size of a model's weights in float32, as which they are loaded; at least on the disk."""
        return sum(map(_loaded_bytes, self.directory(model).rglob("*.safetensors")))


def read_bundle(root: Path) -> Bundle:
    """Read a bundle and verify every byte of it.

    Raises:
        BundleError: it is incomplete, altered, contradicts itself, or wants to run code.
    """
    manifest = read_manifest(root)
    for path, digest in manifest.files.items():
        _verify(root, path, digest)
    for part, model in manifest.models().items():
        for path in _files_of(root, part, model):
            if path not in manifest.files:
                raise UnsealedError(f"{path}: is not in [files]")
        _check_weights(root, model, manifest)
        _check_config(root, part, model, manifest)
    return Bundle(root, manifest)


def read_manifest(root: Path) -> Manifest:
    """Read what `bundle.toml` says, and nothing else.

    Raises:
        BundleError: it is not there, wrong, or lists no files.
    """
    manifest = parse_manifest(_read_document(root))
    if not manifest.files:
        raise UnsealedError(f"{MANIFEST}: has no [files]")
    return manifest


def seal_bundle(root: Path) -> int:
    """Write the SHA-256 of each file of the bundle's models into `bundle.toml`; return how many.

    Raises:
        BundleError: `bundle.toml` is wrong, or a model directory holds what no bundle may hold.
    """
    document = _read_document(root)
    document.pop("files", None)
    manifest = parse_manifest(document)
    paths = sorted(
        {path for part, model in manifest.models().items() for path in _files_of(root, part, model)}
    )
    sums = {path: _digest(_inside(root, path)) for path in paths}
    target = root / MANIFEST
    text = _with_files(target.read_text("utf-8"), sums)
    try:
        is_good = tomllib.loads(text) == {**document, "files": sums}
    except ValueError:
        is_good = False
    if not is_good:
        raise BundleError(f"{MANIFEST}: remove what it says of `files`, and seal it again")
    unfinished = target.with_suffix(".toml.new")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(target)
    return len(paths)


def _with_files(text: str, sums: Mapping[str, str]) -> str:
    """Put the table in the place of the one that there was, of which comments stay."""
    kept, is_inside = list[str](), False
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("["):
            is_inside = bare.startswith("[files]")
        if not is_inside or bare.startswith("#"):
            kept.append(line)
    lines = [f"{json.dumps(path)} = {json.dumps(digest)}" for path, digest in sums.items()]
    return "\n".join(["\n".join(kept).rstrip("\n"), "", "[files]", *lines, ""])


def labels_of(config: Mapping[str, Any]) -> dict[int, str]:
    """A model's labels by the index of its output, as transformers reads them.

    Raises:
        ValueError: an index is no number.
    """
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


def _inside(root: Path, path: str) -> Path:
    """Follow links, but not out of the bundle."""
    try:
        full = (root / path).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise BundleError(f"{path}: {error}") from error
    if not full.is_relative_to(root.resolve()):
        raise BundleError(f"{path}: leads out of the bundle")
    return full


def _verify(root: Path, path: str, digest: str) -> None:
    full = _inside(root, path)
    _check_suffix(path)
    if not full.is_file():
        raise BundleError(f"{path}: is missing, and [files] lists it: copy it again")
    found = _digest(full)
    if found != digest:
        raise UnsealedError(f"{path}: has sha256 {found[:12]}…, and not {digest[:12]}…")


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
    if not isinstance(weights, dict) or not all(isinstance(f, str) for f in weights.values()):
        raise BundleError(f"{path}: has no weight_map of files")
    for file in set(weights.values()):
        if f"{model}/{file}" not in manifest.files:
            raise BundleError(f"{path}: names {file}, which is not in [files]")


def _check_config(root: Path, part: str, model: str, manifest: Manifest) -> None:
    path = f"{model}/config.json"
    config = read_json(root / path, path)
    for key, value in _walk_config(config):
        if key == "auto_map" or (key.endswith("attn_implementation") and "/" in str(value)):
            raise BundleError(f"{path}: wants to run code of its own ({key})")
        if key in _ELSEWHERE and value:
            raise BundleError(f"{path}: {key}: weights are in model.safetensors, in full, or not")
    try:
        labels = set(labels_of(config).values())
    except ValueError as error:
        raise BundleError(f"{path}: id2label: {error}") from error
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


def _walk_config(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key at every depth: a model's parts have configurations of their own."""
    waiting: list[Any] = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from part.items()
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


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


def _loaded_bytes(path: Path) -> int:
    """Of a file of safetensors; where it is none, the file's own, and its loader says what it is.

    Its header gives each tensor's shape (https://huggingface.co/docs/safetensors).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, _CONFIG_BYTES))
    try:
        tensors = [each for name, each in json.loads(header).items() if name != "__metadata__"]
        numbers = int(sum(math.prod(each["shape"]) for each in tensors))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return size
    return max(size, 4 * numbers)


def _labels_wanted(part: str, manifest: Manifest) -> list[str]:
    if part == "detector" and manifest.detector is not None:
        return manifest.detector.labels
    attribute = manifest.attributes.get(part.removeprefix("attributes."))
    return [] if attribute is None else [*(attribute.labels or {}), *(attribute.values or {})]


def _some(labels: set[str]) -> str:
    shown = sorted(labels)[:5]
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return ", ".join(shown) + more

"""What `bundle.toml` may say: the parts of a bundle, their models and numbers."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as InvalidError

from inference.events import EVENT_TYPES, PIPELINE
from inference.features import DESCRIPTOR_MODEL
from inference.frames import LONG_SIDE

MANIFEST = "bundle.toml"
PARTS = ("detector", "tracker", "attributes", "embedder")
MAX_FRAME_SIDE = 1280
_TAKEN = frozenset({PIPELINE.partition("-")[0], DESCRIPTOR_MODEL.rpartition("-")[0]})
"""Names that would make a title, and vectors, those of the built-in analysis."""


class BundleError(Exception):
    """The bundle cannot be used; the message is one line that says what is wrong with what."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # also where a file's name has line breaks


class UnsealedError(BundleError):
    """`[files]` does not list what is there; sealing, or the right files, would mend it."""


def _plain_path(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or not path.parts:
        raise ValueError("leads out of the bundle")
    if str(path) != text:
        raise ValueError(f"is written {path}")
    return text


_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._]{0,63}$")]
"""Without a dash: else two names with their versions could come to the same title."""
_Path = Annotated[str, AfterValidator(_plain_path)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DetectorPart(_Part):
    """Object detection: which of the model's labels is a person, from which score on."""

    model: _Path
    labels: Annotated[list[str], Field(min_length=1)]
    fps: Annotated[float, Field(gt=0, le=120)] | None = None
    """It looks at so many frames a second, at most; None: at each that is analysed."""
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
    intervals: bool = False
    """Of kind `label`: each stretch of one word is an event, of the attribute's name."""
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
    version: _Version
    frame_side: Annotated[int, Field(ge=LONG_SIDE, le=MAX_FRAME_SIDE)] = LONG_SIDE
    """Of the frames that the models get, the longer side, at most; pixels."""
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
    def title(self) -> str:
        """Name and version: what results are known by."""
        return f"{self.name}-{self.version}"

    @property
    def tracking(self) -> TrackerPart:
        """The tracker's numbers, said or not."""
        return self.tracker or TrackerPart()

    @property
    def stretched(self) -> frozenset[str]:
        """The attributes whose stretches of one word are events of their own."""
        return frozenset(name for name, part in self.attributes.items() if part.intervals)

    def models(self) -> dict[str, str]:
        """The model directory of each part that has one, by the part's name."""
        parts: dict[str, DetectorPart | AttributePart | EmbedderPart | None] = {
            "detector": self.detector,
            **{f"attributes.{name}": part for name, part in self.attributes.items()},
            "embedder": self.embedder,
        }
        return {name: part.model for name, part in parts.items() if part is not None}


def parse_manifest(document: dict[str, Any]) -> Manifest:
    """Read the document that `bundle.toml` is.

    Raises:
        BundleError: it names what does not exist, leaves out what must be, or contradicts itself.
    """
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
    if manifest.name in _TAKEN:
        raise BundleError(f"{MANIFEST}: name: {manifest.name} is what is built in")
    if not manifest.models():
        raise BundleError(f"{MANIFEST}: has no part with a model")
    if manifest.detector is None:
        for name in ("tracker", "attributes"):
            if getattr(manifest, name):
                raise BundleError(f"{MANIFEST}: {name}: needs a detector, whose boxes it reads")
    elif manifest.tracking.low > manifest.detector.threshold:
        low, threshold = manifest.tracking.low, manifest.detector.threshold
        raise BundleError(
            f"{MANIFEST}: tracker.low: {low:g} is above detector.threshold, {threshold:g}:"
            " set `low` under [tracker]"
        )
    for name, kind in (("age", "number"), ("gender", "label")):
        part = manifest.attributes.get(name)
        if part is not None and part.kind != kind:
            raise BundleError(f"{MANIFEST}: attributes.{name}.kind: must be {kind}")
    for name, part in manifest.attributes.items():
        _check_attribute(name, part)


def _check_attribute(name: str, part: AttributePart) -> None:
    place = f"{MANIFEST}: attributes.{name}"
    wrong = "values" if part.kind == "label" else "labels"
    if getattr(part, wrong) is not None:
        raise BundleError(f"{place}.{wrong}: not of kind {part.kind}")
    if not part.minimum < part.maximum:
        raise BundleError(f"{place}.minimum: {part.minimum:g} is not below its maximum")
    if part.scale == 0:
        raise BundleError(f"{place}.scale: with 0 everything is the same number")
    if part.intervals and part.kind != "label":
        raise BundleError(f"{place}.intervals: not of kind {part.kind}")
    if part.intervals and name in EVENT_TYPES:
        raise BundleError(
            f"{place}.intervals: {name} events are something else: give it another name"
        )

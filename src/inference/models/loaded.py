"""A bundle's parts, loaded on one device, and what they make of frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from inference.bundle import Bundle
from inference.manifest import BundleError
from inference.models.attributes import Attribute
from inference.models.batches import BatchSize, is_device_fault, spared
from inference.models.crops import cut
from inference.models.detector import Detector
from inference.models.embedder import Embedder
from inference.people import Detections, Reading
from inference.sights import Sight, Sights, Vector

_CPU_BATCH = 1
"""On a CPU batches win little, and one shape for all is simplest with one picture."""
_CUDA_BATCH = 32
_NOBODY = Detections(np.zeros((0, 4)), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Models:
    """The parts that a bundle has."""

    detector: Detector | None
    attributes: Mapping[str, Attribute]
    embedder: Embedder | None
    floor: float
    """Score from which a detection is of use to the tracker."""
    batch_size: BatchSize
    device: torch.device

    @classmethod
    def load(cls, bundle: Bundle, device: torch.device, *, batch_size: int | None = None) -> Self:
        """Load all parts, in float32; `batch_size` None: what suits the device.

        Raises:
            BundleError: one of them does not load.
        """
        size = BatchSize(batch_size or (_CPU_BATCH if device.type == "cpu" else _CUDA_BATCH))
        said = bundle.manifest
        return cls(
            None
            if said.detector is None
            else Detector.load(bundle, said.detector, device, batch_size=size),
            {
                name: Attribute.load(bundle, name, part, device, batch_size=size)
                for name, part in said.attributes.items()
            },
            None
            if said.embedder is None
            else Embedder.load(bundle, said.embedder, device, batch_size=size),
            said.tracking.low,
            size,
            device,
        )

    def warm(self, height: int, width: int) -> None:
        """Run each part once, in the shape in which it always runs, over a frame of this size.

        Raises:
            BundleError: one of them does not run.
        """
        frame = torch.zeros(3, height, width, dtype=torch.uint8, device=self.device)
        parts: dict[str, Callable[[], object]] = {}
        if (detector := self.detector) is not None:
            parts["detector"] = lambda: detector.detect([frame], self.floor)
        for name, attribute in self.attributes.items():
            parts[f"attributes.{name}"] = lambda part=attribute: part.read([frame])  # type: ignore[misc]
        if (embedder := self.embedder) is not None:
            parts["embedder"] = lambda: embedder.embed([frame])
        for name, run in parts.items():
            try:
                spared(run, self.batch_size, self.device)
            except (RuntimeError, ValueError, MemoryError) as error:  # of the model's own code
                if is_device_fault(error):
                    raise
                detail = " ".join(str(error).split())[:300]
                raise BundleError(f"{name}: does not run: {detail}") from error

    @property
    def nothing(self) -> Sight:
        """What is seen of a frame that was not looked at."""
        return Sight(_NOBODY, dict.fromkeys(self.attributes, ()), ())

    def want(self, *, looked_at: bool, whole: bool) -> bool:
        """Whether there is a part for what is asked about a frame; see `look`."""
        return (looked_at and self.detector is not None) or (whole and self.embedder is not None)

    def look(
        self,
        frames: Sequence[Tensor],
        whole: Sequence[bool] = (),
        looked_at: Sequence[bool] = (),
    ) -> list[Sight]:
        """See what is in frames uint8 [3, H, W], of any videos.

        `whole`: which of them to embed as such (empty: none); `looked_at`: in which to look for
        persons (empty: all). The crops of all of them share batches; no frame changes what is seen
        in another. What does not fit into memory is done in smaller batches from then on.
        """
        embedded = list(whole) or [False] * len(frames)
        searched = list(looked_at) or [True] * len(frames)

        def run() -> list[Sight]:
            size = self.batch_size.number
            parts = [slice(at, at + size) for at in range(0, len(frames), size)]
            return [
                sight
                for part in parts
                for sight in self._look(frames[part], embedded[part], searched[part])
            ]

        return spared(run, self.batch_size, self.device)

    def sights(self, seen: Sequence[Sight]) -> Sights:
        """Put what was seen in consecutive frames of one video into arrays."""
        words = {name: part.words for name, part in self.attributes.items()}
        return Sights.of(seen, words, 0 if self.embedder is None else self.embedder.size)

    def _look(
        self, frames: Sequence[Tensor], whole: Sequence[bool], looked_at: Sequence[bool]
    ) -> list[Sight]:
        persons = self._persons(frames, looked_at)
        crops = [
            [cut(frame, box) for box in found.boxes]
            for frame, found in zip(frames, persons, strict=True)
        ]
        flat = [crop for each in crops for crop in each if crop is not None]
        readings = {name: iter(part.read(flat)) for name, part in self.attributes.items()}
        wholes = [frame for frame, wanted in zip(frames, whole, strict=True) if wanted]
        embedded = self._embed([*flat, *wholes])
        vectors, framed = iter(embedded[: len(flat)]), iter(embedded[len(flat) :])
        sights = []
        for found, each, wanted in zip(persons, crops, whole, strict=True):
            read = {
                name: [Reading() if crop is None else next(part) for crop in each]
                for name, part in readings.items()
            }
            seen = [None if crop is None else next(vectors) for crop in each]
            frame = next(framed) if wanted else None
            lacking = 0
            if self.embedder is not None:
                shown = sum(crop is not None for crop in each) + int(wanted)
                lacking = shown - sum(vector is not None for vector in (*seen, frame))
            sights.append(Sight(found, read, seen, lacking, frame))
        return sights

    def _persons(self, frames: Sequence[Tensor], looked_at: Sequence[bool]) -> list[Detections]:
        if self.detector is None:
            return [_NOBODY] * len(frames)
        searched = [frame for frame, looked in zip(frames, looked_at, strict=True) if looked]
        found = iter(self.detector.detect(searched, self.floor))
        return [next(found) if looked else _NOBODY for looked in looked_at]

    def _embed(self, pictures: Sequence[Tensor]) -> Sequence[Vector | None]:
        return [None] * len(pictures) if self.embedder is None else self.embedder.embed(pictures)

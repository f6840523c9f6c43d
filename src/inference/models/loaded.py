"""A bundle's parts, loaded on one device, and what they make of frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from inference.bundle import Bundle
from inference.models.attributes import Attribute
from inference.models.crops import cut
from inference.models.detector import Detector
from inference.models.embedder import Embedder
from inference.people import Detections, Reading
from inference.sights import Sight


@dataclass(frozen=True, slots=True)
class Models:
    """The parts that a bundle has."""

    detector: Detector | None
    attributes: Mapping[str, Attribute]
    embedder: Embedder | None
    floor: float
    """Score from which a detection is of use to the tracker."""

    @classmethod
    def load(cls, bundle: Bundle, device: torch.device, *, batch_size: int | None = None) -> Self:
        """Load all parts, in float32; `batch_size` None: what suits the device.

        Raises:
            BundleError: one of them does not load.
        """
        # On a CPU batches win little, and one shape for all is simplest with one picture.
        size = batch_size or (1 if device.type == "cpu" else 16)
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
        )

    def look(self, frames: Sequence[Tensor]) -> list[Sight]:
        """See what is in frames uint8 [3, H, W] of one size, of any videos.

        The crops of all of them share batches; no frame changes what is seen in another.
        """
        nobody = Detections(np.zeros((0, 4)), np.zeros(0))
        persons = (
            [nobody] * len(frames)
            if self.detector is None
            else self.detector.detect(frames, self.floor)
        )
        crops = [
            [cut(frame, box) for box in found.boxes]
            for frame, found in zip(frames, persons, strict=True)
        ]
        flat = [crop for each in crops for crop in each if crop is not None]
        readings = {name: iter(part.read(flat)) for name, part in self.attributes.items()}
        vectors = iter(self.embedder.embed(flat) if self.embedder is not None else [])
        sights = []
        for found, each in zip(persons, crops, strict=True):
            read = {
                name: [Reading() if crop is None else next(part) for crop in each]
                for name, part in readings.items()
            }
            seen = [None if crop is None else next(vectors, None) for crop in each]
            shown = sum(crop is not None for crop in each) if self.embedder is not None else 0
            lacking = shown - sum(vector is not None for vector in seen)
            sights.append(Sight(found, read, seen, lacking))
        return sights

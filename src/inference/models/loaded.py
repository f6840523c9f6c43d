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
from inference.models.batches import BatchSize, Later, is_device_fault, spared
from inference.models.detector import Detector
from inference.models.embedder import Embedder
from inference.models.pixels import Preparation
from inference.people import Detections, Reading
from inference.sights import Sight, Sights, Vector

_CPU_BATCH = 1
"""On a CPU batches win little, and one shape for all is simplest with one picture."""
_CUDA_BATCH = 32
NOBODY = Detections(np.zeros((0, 4)), np.zeros(0))
"""What is found in a frame without persons."""


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

    def find(self, frames: Sequence[Tensor]) -> Later[list[Detections]]:
        """Begin to look for persons in at most a batch of frames uint8 [3, H, W]."""
        if self.detector is None:
            raise AssertionError("there is no detector")
        return self.detector.start(self.detector.prepare.each(frames), self.floor)

    def examine(
        self, pictures: Sequence[Tensor], *, read: bool
    ) -> Later[list[tuple[dict[str, Reading], Vector | None]]]:
        """Begin to embed at most a batch of pictures uint8 [3, h, w], and to `read` them.

        Parts that want the same pictures share them.
        """
        prepared: dict[Preparation, list[Tensor]] = {}

        def prepare(part: Attribute | Embedder) -> list[Tensor]:
            if part.prepare not in prepared:
                prepared[part.prepare] = part.prepare.each(pictures)
            return prepared[part.prepare]

        parts = self.attributes if read else {}
        readings = {name: part.start(prepare(part)) for name, part in parts.items()}
        embedder = self.embedder
        vectors = None if embedder is None else embedder.start(prepare(embedder))

        def later() -> list[tuple[dict[str, Reading], Vector | None]]:
            known = {name: each() for name, each in readings.items()}
            seen = [None] * len(pictures) if vectors is None else vectors()
            return [
                ({name: each[at] for name, each in known.items()}, vector)
                for at, vector in enumerate(seen)
            ]

        return later

    def sights(self, seen: Sequence[Sight]) -> Sights:
        """Put what was seen in consecutive frames of one video into arrays."""
        words = {name: part.words for name, part in self.attributes.items()}
        return Sights.of(seen, words, 0 if self.embedder is None else self.embedder.size)

"""A bundle's parts, loaded on one device."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from inference.bundle import Bundle
from inference.models.attributes import Attribute
from inference.models.detector import Detector
from inference.models.embedder import Embedder


@dataclass(frozen=True, slots=True)
class Models:
    """The parts that a bundle has."""

    detector: Detector | None
    attributes: Mapping[str, Attribute]
    embedder: Embedder | None

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
        )

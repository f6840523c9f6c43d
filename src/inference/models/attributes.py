"""Reads attributes, such as gender and age, off crops of persons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from inference.bundle import Bundle, labels_of
from inference.manifest import AttributePart, BundleError
from inference.models.batches import BatchSize, Later, parts_of, start
from inference.models.pixels import Preparation
from inference.models.weights import import_transformers, load_model
from inference.people import Reading


@dataclass(frozen=True, slots=True)
class Attribute:
    """An image classification or regression model."""

    network: Any
    prepare: Preparation
    part: AttributePart
    labels: tuple[str, ...]
    """The model's words by output."""
    batch_size: BatchSize
    device: torch.device

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        name: str,
        part: AttributePart,
        device: torch.device,
        *,
        batch_size: BatchSize,
    ) -> Self:
        """Load one of a bundle's attributes.

        Raises:
            BundleError: it does not load, or takes no pictures of one size.
        """
        place = f"attributes.{name}"
        transformers = import_transformers()
        loader = transformers.AutoModelForImageClassification
        network = load_model(bundle, place, part.model, loader, device)
        prepare = Preparation.read(bundle, place, part.model)
        if not prepare.is_fixed:
            raise BundleError(f"{place}: needs a size of height and width, or a centre crop")
        names = labels_of({"id2label": network.config.id2label})
        labels = tuple(names[index] for index in sorted(names))
        return cls(network, prepare, part, labels, batch_size, device)

    @property
    def words(self) -> tuple[str, ...]:
        """All that can be read; nothing where it is a number."""
        if self.part.kind == "number":
            return ()
        stored = self.labels if self.part.labels is None else self.part.labels.values()
        return tuple(dict.fromkeys(stored))

    def read(self, crops: Sequence[Tensor]) -> list[Reading]:
        """Read crops uint8 [3, h, w], each of any size."""
        parts = parts_of([crop.to(self.device) for crop in crops], self.batch_size)
        return [read for part in parts for read in self.start(self.prepare.each(part))()]

    def start(self, prepared: Sequence[Tensor]) -> Later[list[Reading]]:
        """Begin to, with at most a batch of prepared crops."""
        with torch.inference_mode():
            later = start(prepared, self.batch_size, self._run)
        return lambda: [self._read(logits) for (logits,) in later()]

    def _run(self, batch: Tensor) -> tuple[Tensor]:
        return (self.network(pixel_values=batch).logits,)

    def _read(self, logits: Tensor) -> Reading:
        """Read one crop's logits [outputs]."""
        if not torch.isfinite(logits).all():
            return Reading(invalid=True)
        if self.part.kind == "number":
            return self._number(logits)
        shares = logits.softmax(0)
        score, best = shares.max(0)
        if score < self.part.threshold:
            return Reading()
        label = self.labels[int(best)]
        words = self.part.labels
        if words is None:
            return Reading(text=label, score=float(score))
        # A word that the bundle does not translate is one that it does not want.
        return Reading(text=words[label], score=float(score)) if label in words else Reading()

    def _number(self, logits: Tensor) -> Reading:
        part = self.part
        if part.values is None:
            number = float(logits[0])
        else:
            worth = torch.tensor([part.values[label] for label in self.labels])
            number = float((logits.softmax(0) * worth).sum())
        number = number * part.scale + part.offset
        return Reading(number=number) if part.minimum <= number <= part.maximum else Reading()

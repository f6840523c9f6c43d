"""Finds persons in frames, with any object detection model of DETR's family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from inference.bundle import Bundle, labels_of
from inference.manifest import BundleError, DetectorPart
from inference.models.batches import BatchSize, Later, parts_of, start
from inference.models.pixels import Preparation
from inference.models.weights import import_transformers, load_model
from inference.people import MAX_PERSONS, Detections

_BY_SIGMOID = frozenset({"rt_detr", "rt_detr_v2", "d_fine"})
"""Their classes are independent of each other; a query may stand for several."""
_BY_SOFTMAX = frozenset({"yolos"})
"""Their last class means that there is nothing."""


@dataclass(frozen=True, slots=True)
class Detector:
    """An object detection model that looks for persons."""

    network: Any
    prepare: Preparation
    labels: Tensor
    """int64, on the device: the outputs that mean a person, ascending."""
    by_sigmoid: bool
    batch_size: BatchSize
    device: torch.device

    @classmethod
    def load(
        cls, bundle: Bundle, part: DetectorPart, device: torch.device, *, batch_size: BatchSize
    ) -> Self:
        """Load a bundle's detector.

        Raises:
            BundleError: it does not load, is of an unknown family, or its labels are others.
        """
        transformers = import_transformers()
        loader = transformers.AutoModelForObjectDetection
        network = load_model(bundle, "detector", part.model, loader, device)
        kind = network.config.model_type
        if kind not in _BY_SIGMOID | _BY_SOFTMAX:
            known = ", ".join(sorted(_BY_SIGMOID | _BY_SOFTMAX))
            raise BundleError(f"detector: {kind} is not known; known are {known}")
        names = labels_of({"id2label": network.config.id2label})
        wanted = sorted(index for index, name in names.items() if name in part.labels)
        labels = torch.tensor(wanted, dtype=torch.int64, device=device)
        prepare = Preparation.read(bundle, "detector", part.model)
        return cls(network, prepare, labels, kind in _BY_SIGMOID, batch_size, device)

    def detect(self, frames: Sequence[Tensor], floor: float) -> list[Detections]:
        """Find the persons in frames uint8 [3, H, W] with a score of at least `floor`.

        Sorted by score, the best first, at most `MAX_PERSONS`.
        """
        parts = parts_of([frame.to(self.device) for frame in frames], self.batch_size)
        return [found for part in parts for found in self.start(self.prepare.each(part), floor)()]

    def start(self, prepared: Sequence[Tensor], floor: float) -> Later[list[Detections]]:
        """Begin to, with at most a batch of prepared frames."""
        with torch.inference_mode():
            later = start(prepared, self.batch_size, self._run)
        return lambda: [_read(scores, boxes, finite, floor) for scores, boxes, finite in later()]

    def _run(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Scores [N, queries], corners [N, queries, 4], and 1 where they are numbers, else 0.

        All of a batch at once, and on its device: of its classes, only what is asked leaves it.
        """
        output = self.network(pixel_values=batch)
        logits, boxes = output.logits, output.pred_boxes
        finite = torch.isfinite(logits).all(-1) & torch.isfinite(boxes).all(-1)
        return self._scores(logits), _corners(boxes), finite

    def _scores(self, logits: Tensor) -> Tensor:
        """How sure each query is of a person; 0 where another class is likelier."""
        if self.by_sigmoid:
            return logits.index_select(-1, self.labels).sigmoid().amax(-1)
        wanted = logits.new_zeros(logits.shape[-1], dtype=torch.bool)
        wanted.index_fill_(0, self.labels, True)
        scores, best = logits.softmax(-1)[..., :-1].max(-1)
        return scores * wanted[best]


def _read(scores: Tensor, corners: Tensor, finite: Tensor, floor: float) -> Detections:
    """Read one frame: scores [queries], corners [queries, 4], finite [queries] of 0 and 1."""
    finite = finite > 0
    scores, corners = scores[finite], corners[finite]
    wanted = (scores >= floor) & (scores > 0)
    flat = wanted & ((corners[:, 2] <= corners[:, 0]) | (corners[:, 3] <= corners[:, 1]))
    scores, corners = scores[wanted & ~flat], corners[wanted & ~flat]
    order = torch.argsort(scores, descending=True, stable=True)
    kept = order[:MAX_PERSONS]
    return Detections(
        boxes=corners[kept].double().numpy(),
        scores=scores[kept].double().numpy(),
        invalid=int((~finite).sum()) + int(flat.sum()),
        crowded=len(order) - len(kept),
    )


def _corners(boxes: Tensor) -> Tensor:
    """Turn centre and size into left, top, right, bottom, within the frame."""
    x, y, width, height = boxes.unbind(-1)
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return torch.stack(corners, -1).clamp(0, 1)

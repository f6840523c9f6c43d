"""Turns pictures into vectors, with the vision tower of CLIP or SigLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inference.bundle import Bundle, read_json
from inference.manifest import BundleError, EmbedderPart
from inference.models.batches import BatchSize, Later, parts_of, start
from inference.models.pixels import Preparation
from inference.models.weights import import_transformers, load_model

_TOWERS = {
    "clip": ("CLIPVisionModelWithProjection", "image_embeds"),
    "clip_vision_model": ("CLIPVisionModelWithProjection", "image_embeds"),
    "siglip": ("SiglipVisionModel", "pooler_output"),
    "siglip_vision_model": ("SiglipVisionModel", "pooler_output"),
}
"""By `model_type`: the class and its output that the text tower's vectors are compared with."""


@dataclass(frozen=True, slots=True)
class Embedder:
    """A vision tower."""

    network: Any
    prepare: Preparation
    output: str
    batch_size: BatchSize
    device: torch.device

    @classmethod
    def load(
        cls, bundle: Bundle, part: EmbedderPart, device: torch.device, *, batch_size: BatchSize
    ) -> Self:
        """Load a bundle's embedder; of a model with a text tower, the vision tower alone.

        Raises:
            BundleError: it does not load, is no such model, or takes no pictures of one size.
        """
        path = f"{part.model}/config.json"
        kind = read_json(bundle.root / path, path).get("model_type")
        if kind not in _TOWERS:
            raise BundleError(f"embedder: {kind} is not known; known are {', '.join(_TOWERS)}")
        name, output = _TOWERS[kind]
        loader = getattr(import_transformers(), name)
        network = load_model(bundle, "embedder", part.model, loader, device)
        prepare = Preparation.read(bundle, "embedder", part.model)
        if not prepare.is_fixed:
            raise BundleError("embedder: needs a size of height and width, or a centre crop")
        return cls(network, prepare, output, batch_size, device)

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        config = self.network.config
        return int(config.projection_dim if self.output == "image_embeds" else config.hidden_size)

    def embed(self, pictures: Sequence[Tensor]) -> list[npt.NDArray[np.float32] | None]:
        """Turn pictures uint8 [3, h, w], each of any size, into float32 [D] of length 1.

        None where the model gives no direction: a vector of zeros, or with what is no number.
        """
        parts = parts_of([picture.to(self.device) for picture in pictures], self.batch_size)
        return [vector for part in parts for vector in self.start(self.prepare.each(part))()]

    def start(self, prepared: Sequence[Tensor]) -> Later[list[npt.NDArray[np.float32] | None]]:
        """Begin to, with at most a batch of prepared pictures."""
        with torch.inference_mode():
            later = start(prepared, self.batch_size, self._run)
        return lambda: [unit(vector) for (vector,) in later()]

    def _run(self, batch: Tensor) -> tuple[Tensor]:
        # No threshold depends on a direction: half of the bits are enough, if the GPU has them.
        is_half = self.device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_half):
            return (getattr(self.network(pixel_values=batch), self.output),)


def unit(vector: Tensor) -> npt.NDArray[np.float32] | None:
    """Give a vector [D] on the CPU length 1; None for one without a direction."""
    length = float(vector.norm())
    if not 0 < length < float("inf"):  # false for what is no number, too
        return None
    unit: npt.NDArray[np.float32] = (vector / length).numpy()
    return unit

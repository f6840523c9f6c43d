"""Turns words into vectors, with the text tower beside a bundle's vision tower."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from inference.bundle import Bundle, read_json
from inference.manifest import BundleError
from inference.models.embedder import unit
from inference.models.weights import import_transformers, load_model

_MODELS: dict[str | None, tuple[str, bool | str, tuple[str, ...]]] = {
    "clip": ("CLIPModel", False, ("input_ids", "attention_mask")),
    "siglip": ("SiglipModel", "max_length", ("input_ids",)),
}
"""By `model_type`: the class, how a text is padded, and what the tower was trained to be given.
The class has both towers, because the size that they share is only in its configuration."""
_TOKENS = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class TextTower:
    """A text tower and its tokens."""

    network: Any
    tokenize: Any
    padding: bool | str
    inputs: tuple[str, ...]

    @classmethod
    def load(cls, bundle: Bundle, device: torch.device) -> Self:
        """Load the text tower of a bundle's embedder, in float32.

        Tokens are what `tokenizer.json` says, which is data: no class of the bundle's choice is
        looked for.

        Raises:
            BundleError: there is none, it has no `tokenizer.json`, or it does not load.
        """
        part = bundle.manifest.embedder
        if part is None:
            raise BundleError(f"{bundle.title} has no embedder: it cannot be searched by text")
        kind = read_json(bundle.directory(part.model) / "config.json", part.model).get("model_type")
        if kind not in _MODELS:
            raise BundleError(f"{bundle.title} has no text tower: its embedder is a {kind}")
        if f"{part.model}/{_TOKENS}" not in bundle.manifest.files:
            raise BundleError(f"{part.model}/{_TOKENS}: is missing; its text tower needs it")
        name, padding, inputs = _MODELS[kind]
        hf = import_transformers()
        network = load_model(bundle, "embedder", part.model, getattr(hf, name), device)
        try:
            tokenize = hf.PreTrainedTokenizerFast.from_pretrained(
                bundle.directory(part.model), local_files_only=True
            )
        except Exception as error:  # whatever the tokenizer's code makes of wrong files
            detail = " ".join(str(error).split()) or type(error).__name__
            raise BundleError(f"{part.model}/{_TOKENS}: does not load: {detail[:300]}") from error
        return cls(network, tokenize, padding, inputs)

    @staticmethod
    def is_in(bundle: Bundle) -> bool:
        """Tell whether the bundle has the files of one."""
        part = bundle.manifest.embedder
        if part is None or f"{part.model}/{_TOKENS}" not in bundle.manifest.files:
            return False
        path = f"{part.model}/config.json"
        return read_json(bundle.root / path, path).get("model_type") in _MODELS

    def embed(self, text: str) -> npt.NDArray[np.float32]:
        """Turn a text, cut at the tower's length, into float32 [D] of length 1.

        Raises:
            BundleError: the tower gives no direction.
        """
        length = self.network.config.text_config.max_position_embeddings
        try:
            tokens = self.tokenize(
                [text],
                padding=self.padding,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            given = {name: tokens[name].to(self.network.device) for name in self.inputs}
            with torch.inference_mode():
                found = self.network.get_text_features(**given)
        except Exception as error:  # of the tokenizer or the model: an index out of range, say
            detail = " ".join(str(error).split())[:300]
            raise BundleError(f"embedder: its text tower does not run: {detail}") from error
        vector = unit(getattr(found, "pooler_output", found)[0].float().cpu())
        if vector is None:
            raise BundleError("embedder: its text tower gives what is no direction")
        return vector

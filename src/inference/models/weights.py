"""Loads a verified model directory with transformers: plain weights, no code, no network."""

import os
from pathlib import Path
from typing import Any

import psutil
import torch

from inference.bundle import Bundle
from inference.manifest import BundleError
from inference.models.batches import is_device_fault

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Read when transformers is imported: a model whose parts are elsewhere is refused, not fetched."""


def import_transformers() -> Any:
    """Import transformers late: it takes seconds that only a bundle is worth.

    Raises:
        BundleError: it is not installed.
    """
    os.environ.update(_QUIET)
    try:
        import transformers  # noqa: PLC0415 # see above
        from transformers.utils import logging  # noqa: PLC0415 # see above
    except ImportError as error:
        raise BundleError(
            f"a bundle needs {error.name}: pip install 'video-poller[models]'"
        ) from error
    logging.disable_progress_bar()
    return transformers


def load_model(bundle: Bundle, part: str, model: str, loader: Any, device: torch.device) -> Any:
    """Load one model in float32, ready to infer.

    `loader` is a class of transformers that has `from_pretrained`.

    Raises:
        BundleError: the files are no such model, weights are missing, or they do not fit.
    """
    size = bundle.size_bytes(model)
    for place in dict.fromkeys((device, torch.device("cpu"))):  # they are loaded on the CPU first
        if size > (free := free_bytes(place)):
            raise BundleError(
                f"{part}: its weights are {size} bytes, {place} has {free} left:"
                " take a smaller model, or give more memory"
            )
    try:
        loaded, told = loader.from_pretrained(
            bundle.directory(model),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
        loaded = loaded.to(device)
        if device.type == "cuda":  # convolutions are faster so
            loaded = loaded.to(memory_format=torch.channels_last)
    except Exception as error:  # whatever a model's code makes of wrong files
        if is_device_fault(error):
            raise
        detail = " ".join(str(error).split()) or type(error).__name__
        raise BundleError(f"{part}: does not load: {detail[:300]}") from error
    # Without this, transformers fills what is missing with random numbers and goes on.
    if missing := told["missing_keys"]:
        raise BundleError(f"{part}: {len(missing)} weights are missing, such as {min(missing)}")
    if misshapen := told["mismatched_keys"]:
        name, here, wanted = min(misshapen)
        raise BundleError(
            f"{part}: {len(misshapen)} weights have another shape than its config.json says, such"
            f" as {name}: {[*here]}, not {[*wanted]}"
        )
    return loaded.eval().requires_grad_(requires_grad=False)


def free_bytes(device: torch.device, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that is left on the device; on a CPU, what its container may still take of it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # none, one of version 1, or "max"
        return available
    told = {name: int(value) for name, value in map(str.split, lines)}
    # Files that were read count as used, and give way.
    used -= told["active_file"] + told["inactive_file"]
    return max(0, min(available, limit - used))

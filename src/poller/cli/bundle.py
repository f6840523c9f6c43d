"""`poller bundle check`."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import ByteSize
from rich.console import Console

from inference.bundle import Bundle
from inference.manifest import MAX_FRAME_SIDE, BundleError
from inference.models.loaded import Models
from inference.models.text import TextTower
from poller.bundles import bundle_at
from poller.errors import SettingsError
from poller.settings import load

Result = TypeVar("Result")
_RATIO = 9 / 16
"""Of the test frame's sides, as of most cameras' frames."""


async def check(place: str, device: str, *, as_json: bool) -> None:
    """Verify a bundle, load each of its parts, run it once, and say what it is.

    Raises:
        SettingsError: it cannot be used.
        UnavailableError: it is in S3, which is away, or the disk is full.
    """
    try:
        async with bundle_at(place, load().work_dir) as bundle:
            report = _report(bundle, pick_device(device))
    except BundleError as error:
        if as_json:
            _print_json({"loads": False, "fault": str(error)})
        raise SettingsError([str(error)]) from error
    if as_json:
        _print_json(report)
        return
    console = Console(highlight=False, soft_wrap=True)
    size = ByteSize(report["size_bytes"]).human_readable()
    console.print(f"{report['title']}: {report['files']} files verified, {size} of weights")
    for name, part in report["parts"].items():
        words = _detector_words(part) if name == "detector" else _words(part)
        console.print(f"[green]✓[/] {name}: ", end="")
        console.print(", ".join(words), markup=False)
    detector = report["parts"].get("detector")
    if detector and detector["frame_side"] < min(detector["made_for"], MAX_FRAME_SIDE):
        console.print(
            f"[yellow]![/] small persons are missed: frames have {detector['frame_side']} pixels"
            f" on the longer side, the detector is made for {detector['made_for']};"
            f" set frame_side = {min(detector['made_for'], MAX_FRAME_SIDE)}"
        )


def _words(part: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key.replace('_', ' ')} {value}" for key, value in part.items())


def _detector_words(part: Mapping[str, Any]) -> Iterator[str]:
    """Also how often it looks and how large the frames are, by the names that change that."""
    fps, side = part["fps"], part["frame_side"]
    told = {"fps", "pause_ms", "frame_side", "made_for"}
    yield from _words({key: value for key, value in part.items() if key not in told})
    if fps is None:
        yield "looks at each frame that is analysed (detector.fps is not set)"
    else:
        pause = f"about {part['pause_ms']} ms from one to the next"
        yield f"looks at {fps:g} frames a second at most, {pause} (detector.fps)"
    yield f"frames have up to {side} pixels on the longer side (frame_side)"
    yield f"made for {part['made_for']}"


def pick_device(name: str) -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into a device.

    Raises:
        BundleError: there is none of that name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BundleError("there is no CUDA device")
    return torch.device(name)


def _report(bundle: Bundle, device: torch.device) -> dict[str, Any]:
    torch.set_num_threads(1)  # as in the service: what is measured is what there will be
    models = Models.load(bundle, device)
    frame = _test_frame(bundle.manifest.frame_side).to(device)
    models.warm(*frame.shape[1:])
    try:
        parts = _try_parts(bundle, models, frame)
    except (RuntimeError, ValueError) as error:  # of the model's own code
        raise BundleError(f"does not run: {' '.join(str(error).split())[:300]}") from error
    return {
        "loads": True,
        "title": bundle.title,
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "device": str(device),
        "files": len(bundle.manifest.files),
        "size_bytes": sum(map(bundle.size_bytes, set(bundle.manifest.models().values()))),
        "parts": parts,
    }


def _try_parts(bundle: Bundle, models: Models, frame: torch.Tensor) -> dict[str, dict[str, Any]]:
    """Run each part on the test frame, which stands for a person's crop too."""
    said = bundle.manifest
    parts: dict[str, dict[str, Any]] = {}
    if said.detector is not None and (detector := models.detector) is not None:
        (found,), ms = _timed(lambda: detector.detect([frame], said.tracking.low))
        parts["detector"] = {
            "model": detector.network.config.model_type,
            "persons_are": " or ".join(said.detector.labels),
            "threshold": said.detector.threshold,
            "found": len(found.scores),
            "fps": said.detector.fps,
            "pause_ms": None if said.detector.fps is None else round(1000 / said.detector.fps),
            "frame_side": said.frame_side,
            "made_for": detector.prepare.side(*frame.shape[1:]),
            "ms": ms,
        }
        parts["tracker"] = said.tracking.model_dump()
    for name, attribute in models.attributes.items():
        _, ms = _timed(partial(attribute.read, [frame]))
        part = said.attributes[name]
        words = part.labels.values() if part.labels else attribute.labels
        parts[f"attributes.{name}"] = {
            "model": attribute.network.config.model_type,
            "gives": "a number" if part.kind == "number" else " or ".join(sorted(set(words))),
            "ms": ms,
        }
    if (embedder := models.embedder) is not None:
        (vector,), ms = _timed(lambda: embedder.embed([frame]))
        parts["embedder"] = {
            "model": embedder.network.config.model_type,
            "numbers": 0 if vector is None else len(vector),
            "text": _try_text(bundle),
            "ms": ms,
        }
    return parts


def _try_text(bundle: Bundle) -> str:
    """Whether words can be looked for; a text tower that is there must run."""
    if not TextTower.is_in(bundle):
        return "no"
    TextTower.load(bundle, torch.device("cpu")).embed("a person")
    return "yes"


def _timed(run: Callable[[], list[Result]]) -> tuple[list[Result], int]:
    start = time.monotonic()
    result = run()
    return result, round((time.monotonic() - start) * 1000)


def _test_frame(width: int) -> torch.Tensor:
    """Colour ramps with a bright figure in the middle; uint8 [3, H, W]."""
    height = round(width * _RATIO)
    rows, columns = np.mgrid[0:height, 0:width] * 255 // width
    ramp = np.stack([columns, rows, columns // 2 + rows // 2]).astype(np.uint8)
    ramp[:, height // 5 : height * 5 // 6, width * 3 // 7 : width * 4 // 7] = 230
    return torch.from_numpy(ramp)


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")

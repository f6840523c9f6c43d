"""Bundles to measure with: real architectures of Hugging Face's with random weights.

How fast a model is does not depend on what it has learnt.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers as hf
from tests.factories_bundle import AGE, DETECTOR, EMBEDDER, GENDER, names, write_bundle
from tests.factories_bundle import write_classifier as write_small_classifier
from tests.factories_bundle import write_detector as write_small_detector
from tests.factories_bundle import write_embedder as write_small_embedder

from inference.bundle import read_bundle, seal_bundle
from inference.models.loaded import Models

SIDE = 224
DETECTOR_SIDE = 640
DEEP_SIDE = 32
UNSURE = DETECTOR.replace("0.5", "1.0")
"""The tracker's lowest score must not be above it; `aim` sets that."""


def write_deep_detector(root: Path) -> Path:
    """A RT-DETRv2 that is deep and narrow, and nothing else: it profits from batches.

    Its steps are so many and so small that starting them takes longer than what they compute, on a
    CPU as large models do on a GPU: one picture costs nearly as much as many.
    """
    torch.manual_seed(0)
    width = 16
    backbone = hf.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[3, 3, 3, 3], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = hf.RTDetrV2Config(
        backbone_config=backbone, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=width,
        encoder_layers=6, encoder_ffn_dim=width, encoder_attention_heads=2, d_model=width,
        num_queries=4, decoder_layers=240, decoder_ffn_dim=width, decoder_attention_heads=2,
        decoder_in_channels=[width] * 3, num_denoising=0, **names("person", "car"),
    )  # fmt: skip
    side = {"height": DEEP_SIDE, "width": DEEP_SIDE}
    model = hf.RTDetrV2ForObjectDetection(config)
    _save(root / "detector", model, hf.RTDetrImageProcessorPil(size=side))
    write_bundle(root, DETECTOR)
    return root


def write_small(root: Path) -> Path:
    """All parts, so small that a CPU runs them in no time."""
    write_small_detector(root / "detector", "yolos")
    write_small_classifier(root / "gender", "female", "male")
    write_small_classifier(root / "age", "years")
    write_small_embedder(root / "embedder", "clip_vision_model")
    write_bundle(root, UNSURE, GENDER, AGE, EMBEDDER)
    return root


def write_full(root: Path) -> Path:
    """RT-DETRv2 with a ResNet-50, two ViT-B/16 for gender and age, CLIP's ViT-B/16 tower."""
    _write_resnet_detector(root)
    square = {"height": SIDE, "width": SIDE}
    for name, labels in (("gender", ("female", "male")), ("age", ("years",))):
        model = hf.ViTForImageClassification(hf.ViTConfig(**names(*labels)))
        _save(root / name, model, hf.ViTImageProcessorPil(size=square))
    tower = hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(patch_size=16))
    processor = hf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square)
    _save(root / "embedder", tower, processor)
    write_bundle(root, UNSURE, GENDER, AGE, EMBEDDER)
    return root


def write_detector(root: Path, *, full: bool) -> Path:
    """A detector and nothing else: RT-DETRv2 with a ResNet-50, or a very small one."""
    if full:
        _write_resnet_detector(root)
    else:
        write_small_detector(root / "detector", "yolos")
    write_bundle(root, DETECTOR)
    return root


def aim(root: Path, frames: npt.NDArray[np.uint8], device: torch.device, *, persons: int) -> None:
    """Set the lowest score of a bundle so that it sees so many persons in a frame, on the average.

    A model with random weights is sure of nothing. `frames` is uint8 [N, H, W, 3].
    """
    models = Models.load(read_bundle(root), device)
    if models.detector is None:
        raise ValueError("the bundle has no detector")
    pictures = [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames]
    found = models.detector.detect(pictures, 0.0)
    scores = np.sort(np.concatenate([each.scores for each in found]))
    low = float(scores[-min(len(scores), persons * len(frames))])
    manifest = root / "bundle.toml"
    said, _, _ = manifest.read_text().partition("[files]")
    manifest.write_text(f"{said}\n[tracker]\nlow = {low!r}\n")
    seal_bundle(root)


def _write_resnet_detector(root: Path) -> None:
    torch.manual_seed(0)
    side = {"height": DETECTOR_SIDE, "width": DETECTOR_SIDE}
    model = hf.RTDetrV2ForObjectDetection(hf.RTDetrV2Config(**names("person", "car")))
    _save(root / "detector", model, hf.RTDetrImageProcessorPil(size=side))


def _save(directory: Path, model: Any, processor: Any) -> None:
    model.eval().save_pretrained(directory)
    processor.save_pretrained(directory)

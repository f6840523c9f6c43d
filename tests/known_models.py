"""Detectors and classifiers whose weights are set by hand, so that the right answer is known.

A ViT's normalisation is made harmless by two huge channels of opposite sign, which alone decide its
variance, and by a mirror of each channel that is used, which keeps the mean at zero.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import Tensor
from torch.nn import Linear, Module

from tests.factories_bundle import SIDE, SQUARE, names

_HUGE = 1000.0
_MIRROR = 16
"""Channel c is mirrored in c + 16."""
_RED, _BLUE = 0, 1
_SIDES = (2, 3, 4, 5)
"""Of a patch: left, top, right, bottom, 0..1."""
_FIRST, _SECOND = 6, 7
"""Marks of the two detection tokens, for red and blue."""
_BOX = (8, 9, 10, 11)
_SEEN = (12, 13)
"""What the token found is red, is blue."""


def write_rectangle_detector(directory: Path) -> None:
    """A YOLOS that finds one red and one blue rectangle, exactly if they lie on a grid of eighths.

    Both are its label `person`. Attention heads look for the outermost patches of the token's
    colour; the box head turns their sides into the logits of centre and size.
    """
    config = hf.YolosConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=4,
        image_size=[SIDE, SIDE], patch_size=8, num_detection_tokens=2,
        use_mid_position_embeddings=False, **names("person", "car"),
    )  # fmt: skip
    model: Any = _zeroed(hf.YolosForObjectDetection(config))
    parts = dict(model.named_modules())
    _set_patches(parts["vit.embeddings.patch_embeddings.projection"])
    places = model.vit.embeddings.position_embeddings[0]
    for row in range(8):
        for column in range(8):
            sides = (column, row, column + 1, row + 1)
            for channel, side in zip(_SIDES, sides, strict=True):
                _put(places[1 + 8 * row + column], channel, side / 8)
    _put(places[-2], _FIRST, 1.0)
    _put(places[-1], _SECOND, 1.0)
    _calm(parts, places)
    layer = "vit.encoder.layer.0.attention."
    query, key, value = (parts[f"{layer}attention.{name}"] for name in ("query", "key", "value"))
    for head, (channel, sign) in enumerate(zip(_SIDES, (-1, -1, 1, 1), strict=True)):
        at = 16 * head
        for colour, mark in ((_RED, _FIRST), (_BLUE, _SECOND)):
            query.weight[at + colour, mark] = 4.0  # against the root of the head's size
            key.weight[at + colour, colour] = 600.0
            key.weight[at + colour, channel] = sign * 200.0
            value.weight[at + 1 + colour, colour] = 1.0
        value.weight[at, channel] = 1.0
        _put_row(parts[f"{layer}output.dense"], _BOX[head], at)
    for colour in (0, 1):
        _put_row(parts[f"{layer}output.dense"], _SEEN[colour], 1 + colour)
    _set_classes(parts)
    _set_boxes(parts)
    _save(directory, model, hf.YolosImageProcessorPil(size=SQUARE, do_normalize=False))


def write_colour_classifier(
    directory: Path, labels: tuple[str, ...], red: tuple[float, ...], blue: tuple[float, ...]
) -> None:
    """A ViT whose outputs are the shares of red and blue in the picture, by these weights."""
    config = hf.ViTConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        image_size=SIDE, patch_size=16, **names(*labels),
    )  # fmt: skip
    model: Any = _zeroed(hf.ViTForImageClassification(config))
    parts = dict(model.named_modules())
    _set_patches(parts["vit.embeddings.patch_embeddings.projection"])
    _calm(parts, model.vit.embeddings.position_embeddings[0])
    # Without queries every token looks at all alike: at 16 patches and the class token.
    for colour in (_RED, _BLUE):
        parts["vit.layers.0.attention.v_proj"].weight[colour, colour] = 17 / 16
        _put_row(parts["vit.layers.0.attention.o_proj"], _BOX[colour], colour)
    for output, weights in enumerate(zip(red, blue, strict=True)):
        for colour, weight in enumerate(weights):
            model.classifier.weight[output, _BOX[colour]] = weight
    _save(directory, model, hf.ViTImageProcessorPil(size=SQUARE, do_normalize=False))


def _zeroed(model: Module) -> Module:
    for weight in model.requires_grad_(requires_grad=False).parameters():
        weight.zero_()
    return model


def _put(token: Tensor, channel: int, value: float) -> None:
    token[channel] = value
    token[channel + _MIRROR] = -value


def _put_row(linear: Any, channel: int, source: int) -> None:
    linear.weight[channel, source] = 1.0
    linear.weight[channel + _MIRROR, source] = -1.0


def _set_patches(projection: Any) -> None:
    """The mean of red less green, and of blue less green."""
    size = projection.weight.shape[-1] ** 2
    for channel, plane in ((_RED, 0), (_BLUE, 2)):
        for sign, place in ((1, channel), (-1, channel + _MIRROR)):
            projection.weight[place, plane] = sign / size
            projection.weight[place, 1] = -sign / size


def _calm(parts: Mapping[str, Any], places: Tensor) -> None:
    places[:, 62], places[:, 63] = _HUGE, -_HUGE
    for name, part in parts.items():
        if "layernorm" in name:
            part.weight[:] = _HUGE * (2 / 64) ** 0.5


def _set_classes(parts: Mapping[str, Linear]) -> None:
    first, second, third = (parts[f"class_labels_classifier.layers.{at}"] for at in range(3))
    for unit, (mark, seen) in enumerate(zip((_FIRST, _SECOND), _SEEN, strict=True)):
        first.weight[unit, mark] = first.weight[unit, seen] = 1.0
        first.bias[unit] = -1.0  # both, or nothing
        second.weight[unit, unit] = 1.0
        third.weight[0, unit] = 20.0
    third.bias[:] = torch.tensor([-10.0, -10.0, 0.0])


def _set_boxes(parts: Mapping[str, Linear]) -> None:
    """Centre and size, then their logits, drawn as straight lines between sixteenths."""
    first, second, third = (parts[f"bbox_predictor.layers.{at}"] for at in range(3))
    left, top, right, bottom = _BOX
    for unit, (low, high, share) in enumerate(
        ((left, right, 0.5), (top, bottom, 0.5), (left, right, -1.0), (top, bottom, -1.0))
    ):
        first.weight[unit, low], first.weight[unit, high] = share, abs(share)
    knots = torch.arange(17) / 16
    heights = torch.logit(knots, eps=1 / 64)
    slopes = heights.diff() * 16
    bends = torch.cat((slopes[:1], slopes.diff()))
    for output in range(4):
        units = slice(16 * output, 16 * output + 16)
        second.weight[units, output] = 1.0
        second.bias[units] = -knots[:16]
        third.weight[output, units] = bends
        third.bias[output] = heights[0]


def _save(directory: Path, model: Any, processor: Any) -> None:
    model.eval().save_pretrained(directory)
    processor.save_pretrained(directory)

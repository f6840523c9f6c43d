"""Prepares pictures as a model's image processor would, in torch, on the model's device."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor

from inference.bundle import Bundle, read_json
from inference.manifest import BundleError
from inference.models.resampling import FILTERS, resize

_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What `preprocessor_config.json` says, for pictures uint8 [3, H, W]."""

    height: int | None
    width: int | None
    """Both, or neither: then by the edges, with the ratio kept."""
    shortest: int | None
    longest: int | None
    multiple: int
    """Both sides are cut down to a multiple of it, where the ratio is kept."""
    filter: str
    crop: tuple[int, int] | None
    """Height and width of the middle that is cut out after the resize."""
    factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, bundle: Bundle, part: str, model: str) -> Self:
        """Read a model's file.

        Raises:
            BundleError: it is missing, or asks for what is not done here.
        """
        name = f"{model}/{_FILE}"
        said = read_json(bundle.directory(model) / _FILE, name)
        try:
            return cls._parse(said)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{part}: {name}: {type(error).__name__}: {error}") from error

    @classmethod
    def _parse(cls, said: Mapping[str, Any]) -> Self:
        if not said.get("do_resize", True) or (said.get("do_pad") and said.get("pad_size")):
            raise ValueError("do_resize must be true, and pad_size not set")
        resample = said.get("resample", 2)
        if resample not in FILTERS:
            raise ValueError(f"resample {resample} is none of Pillow's {FILTERS}")
        is_cropped = bool(said.get("do_center_crop"))
        size = _size_of(said, keeps_ratio=is_cropped or "max_size" in said)
        crop = said["crop_size"] if is_cropped else None
        is_normal = said.get("do_normalize", True)
        return cls(
            size.get("height"),
            size.get("width"),
            size.get("shortest_edge"),
            size.get("longest_edge"),
            16 if str(said.get("image_processor_type")).startswith("Yolos") else 1,
            FILTERS[resample],
            _pair(crop) if crop is not None else None,
            float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0,
            _three(said["image_mean"] if is_normal else (0, 0, 0)),
            _deviations(said["image_std"] if is_normal else (1, 1, 1)),
        )

    @property
    def is_fixed(self) -> bool:
        """Every picture comes out at one size."""
        return self.crop is not None or self.height is not None

    def side(self, height: int, width: int) -> int:
        """Pixels of the longer side that a picture of this size is brought to."""
        return max(self._target(height, width))

    def each(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Prepare pictures uint8 [3, H, W], those of one size together: fewer, larger steps."""
        sizes: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for at, picture in enumerate(pictures):
            sizes[tuple(picture.shape)].append(at)
        prepared: dict[int, Tensor] = {}
        for alike in sizes.values():
            stack = torch.stack([pictures[at] for at in alike])
            prepared |= dict(zip(alike, self(stack), strict=True))
        return [prepared[at] for at in range(len(pictures))]

    def __call__(self, picture: Tensor) -> Tensor:
        """Turn uint8 [..., 3, H, W] RGB into float32 [..., 3, h, w].

        The sums are of whole numbers: that there are several changes no bit.
        """
        height, width = self._target(*picture.shape[-2:])
        resized = resize(picture, height, width, self.filter)
        if self.crop is not None:
            resized = _middle(resized, *self.crop)
        mean, std = (_column(three, picture.device) for three in (self.mean, self.std))
        return (resized * self.factor - mean) / std

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.height is not None and self.width is not None:
            return self.height, self.width
        short, long = min(height, width), max(height, width)
        edge: float = self.shortest or short
        if self.longest is not None and long / short * edge > self.longest:
            edge = self.longest * short / long
        sides = round(edge), int(edge * long / short)
        high, wide = sides if height <= width else sides[::-1]
        return high - high % self.multiple, wide - wide % self.multiple


@lru_cache(maxsize=64)
def _column(three: tuple[float, float, float], device: torch.device) -> Tensor:
    """float32 [3, 1, 1]. Kept on the device: to bring it there would wait for all that is begun."""
    return torch.tensor(three, device=device)[:, None, None]


def _size_of(said: Mapping[str, Any], *, keeps_ratio: bool) -> dict[str, int]:
    size = said["size"]
    if isinstance(size, int):
        name = ("shortest_edge",) if keeps_ratio else ("height", "width")
        size = dict.fromkeys(name, size)
        if "max_size" in said:
            size["longest_edge"] = said["max_size"]
    sizes = {name: int(value) for name, value in size.items() if value is not None}
    if sizes.keys() not in (
        {"height", "width"},
        {"shortest_edge"},
        {"shortest_edge", "longest_edge"},
    ):
        raise ValueError(f"size {size} is neither height and width nor edges")
    if not all(0 < value <= 4096 for value in sizes.values()):
        raise ValueError(f"size {size} is not within 1 to 4096")
    return sizes


def _pair(crop: Any) -> tuple[int, int]:
    height, width = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise ValueError(f"crop_size {crop} is not within 1 to 4096")
    return int(height), int(width)


def _three(numbers: Any) -> tuple[float, float, float]:
    first, second, third = (float(number) for number in numbers)
    if not all(map(math.isfinite, (first, second, third))):
        raise ValueError(f"{numbers} are not three numbers")
    return first, second, third


def _deviations(numbers: Any) -> tuple[float, float, float]:
    if not all(three := _three(numbers)):
        raise ValueError(f"image_std {numbers}: nothing can be divided by 0")
    return three


def _middle(picture: Tensor, height: int, width: int) -> Tensor:
    """Cut out the middle, with black around a picture that is smaller."""
    *several, high, wide = picture.shape
    above, left = (high - height) // 2, (wide - width) // 2
    if above < 0 or left < 0:
        whole = picture.new_zeros(*several, max(height, high), max(width, wide))
        at = max(0, -above), max(0, -left)
        whole[..., at[0] : at[0] + high, at[1] : at[1] + wide] = picture
        picture, above, left = whole, max(0, above), max(0, left)
    return picture[..., above : above + height, left : left + width]

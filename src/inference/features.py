"""What the device measures on each frame: the only thing the timeline ever sees of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

DESCRIPTOR_MODEL = "dct-hog-v1"
DESCRIPTOR_SIZE = 256


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Measurements of N consecutive frames of one video; each array's first axis is N."""

    content_score: npt.NDArray[np.float64]
    """float64 [N]: PySceneDetect's `content_val` against the previous frame, 0..255; first 0."""
    black_ratio: npt.NDArray[np.float64]
    """float64 [N]: share of black pixels, 0..1 (ffmpeg blackdetect)."""
    freeze_difference: npt.NDArray[np.float64]
    """float64 [N]: mean absolute difference to the freeze reference, 0..1; first 1."""
    frozen: npt.NDArray[np.bool_]
    """bool [N]: the difference is within the noise; a frame that is not is the new reference."""
    motion_area: npt.NDArray[np.float64]
    """float64 [N]: share of the picture that left the running mean, 0..1."""
    described: npt.NDArray[np.bool_]
    """bool [N]: the frame has a descriptor."""
    descriptor: npt.NDArray[np.float32]
    """float32 [N, 256]: unit vectors where `described`, else zeros."""

    def __post_init__(self) -> None:
        count = self.content_score.shape[0]
        for name, array in self.to_arrays().items():
            shape = (count, DESCRIPTOR_SIZE) if name == "descriptor" else (count,)
            if array.shape != shape:
                raise ValueError(f"{name} must be {shape}, not {array.shape}")

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays by name, for a wire or a file that knows nothing of their meaning."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The inverse of `to_arrays`; raises TypeError for a missing or unknown name."""
        return cls(**arrays)  # type: ignore[arg-type]  # names decide the dtypes

    @classmethod
    def join(cls, parts: "Sequence[FrameFeatures]") -> Self:
        """Put consecutive stretches, at least one, behind each other."""
        names = parts[0].to_arrays()
        return cls.from_arrays(
            {name: np.concatenate([part.to_arrays()[name] for part in parts]) for name in names}
        )

    def cut(self, start: int, stop: int) -> Self:
        """The frames from `start` up to, without, `stop`."""
        arrays = self.to_arrays().items()
        return self.from_arrays({name: array[start:stop] for name, array in arrays})

    def __len__(self) -> int:
        return int(self.content_score.shape[0])

"""Turns one model's vectors of single frames into the embeddings of frames and shots."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference.events import Embedding

_NO_DIRECTION = 1e-6
"""Shorter sums of unit vectors are rounding."""


@dataclass(slots=True)
class Pictured:
    """Adds up vectors by shot, although a cut may be reported after later frames came."""

    model: str
    """What the embeddings are known by."""
    settled: npt.NDArray[np.float64] | None = None
    """The sum over the open shot, as far as it is certain to be of it."""
    pending: list[tuple[int, npt.NDArray[np.float32]]] = field(default_factory=list)
    second: int | None = None
    ended: list[npt.NDArray[np.float64] | None] = field(default_factory=list)
    """The sums from one possible cut to the next."""

    def add(self, frame: int, pts_ms: float, vector: npt.NDArray[np.float32]) -> list[Embedding]:
        """Take a frame's unit vector, in order; the first of each second is an embedding."""
        self.pending.append((frame, vector))
        before, self.second = self.second, int(pts_ms // 1000)
        if before == self.second:
            return []
        at = round(pts_ms)
        return [Embedding("frame", at, at, self.model, vector)]

    def settle(self, frame: int) -> None:
        """No cut before `frame` can come any more: its predecessors belong to the open shot."""
        while self.pending and self.pending[0][0] < frame:
            vector = self.pending.pop(0)[1].astype(np.float64)
            self.settled = vector if self.settled is None else self.settled + vector

    def end(self, frame: int) -> None:
        """Note that there may be a cut before `frame`."""
        self.settle(frame)
        self.ended.append(self.settled)
        self.settled = None

    def embed(self, first: int, stop: int, start_ms: int, end_ms: int) -> list[Embedding]:
        """The mean direction of a shot, from the stretch `first` to the one before `stop`.

        None where no frame of it has a vector, or they cancel each other out. The descriptor of
        the built-in analysis always has one: each shot's first frame is described, and the constant
        in each descriptor is positive.
        """
        sums = [each for each in self.ended[first:stop] if each is not None]
        total = sum(sums[1:], sums[0]) if sums else None
        length = 0.0 if total is None else float(np.linalg.norm(total))
        if total is None or length < _NO_DIRECTION:
            return []
        vector = (total / length).astype(np.float32)
        return [Embedding("shot", start_ms, end_ms, self.model, vector)]

"""Runs a model over pictures so that none of them can change another's result."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class BatchSize:
    """How many pictures the models of a bundle take at once; the same for all of them."""

    number: int

    def halve(self) -> None:
        """Make do with less memory."""
        self.number = max(1, self.number // 2)


def in_batches(
    pictures: Sequence[Tensor], size: int, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> list[tuple[Tensor, ...]]:
    """What `run` makes of each picture, float32 [C, H, W]; those of one shape share batches.

    Every batch has `size` pictures, the last one filled up with its own first: another shape would
    let the libraries choose another order of adding up, and change the last bits.
    """
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at, picture in enumerate(pictures):
        shapes[tuple(picture.shape)].append(at)
    outcomes: dict[int, tuple[Tensor, ...]] = {}
    for alike in shapes.values():
        for start in range(0, len(alike), size):
            rows = alike[start : start + size]
            filled = rows + rows[:1] * (size - len(rows))
            batch = torch.stack([pictures[at] for at in filled])
            if batch.is_cuda and batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            results = [result.float().cpu() for result in run(batch)]
            for row, at in enumerate(rows):
                outcomes[at] = tuple(result[row] for result in results)
    return [outcomes[at] for at in range(len(pictures))]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may do."""
    is_refused = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return is_refused or isinstance(error, MemoryError | torch.OutOfMemoryError)

"""Runs a model over pictures so that none of them can change another's result."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def in_batches(
    pictures: Sequence[Tensor], size: int, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield what `run` makes of each picture, float32 [C, H, W], all of one shape.

    Every batch has `size` pictures, the last one filled up with its own first: another shape would
    let the libraries choose another order of adding up, and change the last bits.
    """
    for at in range(0, len(pictures), size):
        batch = list(pictures[at : at + size])
        filled = batch + [batch[0]] * (size - len(batch))
        results = run(torch.stack(filled))
        for row in range(len(batch)):
            yield tuple(result[row].float().cpu() for result in results)

"""Runs a model over pictures so that none of them can change another's result."""

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch says where it is not its own allocator that finds no room."""


@dataclass(slots=True)
class BatchSize:
    """How many pictures are taken at once; the same for all models of a bundle."""

    number: int
    on_batch: Callable[[], None] = lambda: None
    """Called before each batch: a crowd has hundreds of them, of each model."""

    def halve(self) -> None:
        """Make do with less memory."""
        self.number = max(1, self.number // 2)


def in_batches(
    pictures: Sequence[Tensor],
    size: BatchSize,
    prepare: Callable[[Sequence[Tensor]], list[Tensor]],
    run: Callable[[Tensor], tuple[Tensor, ...]],
) -> list[tuple[Tensor, ...]]:
    """What `run` makes of each picture, uint8 [3, h, w], once it is prepared.

    `prepare` makes float32 [C, H, W] of each; those of one shape share batches. Only so many are
    prepared at once as a batch has: a crowd's, all together, would take gigabytes.
    Every batch has `size` pictures, the last one filled up with its own first: another shape would
    let the libraries choose another order of adding up, and change the last bits.
    """
    number = size.number
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)
    outcomes: dict[int, tuple[Tensor, ...]] = {}

    def finish(alike: list[tuple[int, Tensor]]) -> None:
        size.on_batch()
        results = _run_filled([picture for _, picture in alike], number, run)
        for row, (at, _) in enumerate(alike):
            outcomes[at] = tuple(result[row] for result in results)
        alike.clear()

    for start in range(0, len(pictures), number):
        for at, picture in enumerate(prepare(pictures[start : start + number]), start):
            alike = waiting[tuple(picture.shape)]
            alike.append((at, picture))
            if len(alike) == number:
                finish(alike)
    for alike in filter(None, waiting.values()):
        finish(alike)
    return [outcomes[at] for at in range(len(pictures))]


def _run_filled(
    pictures: list[Tensor], number: int, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> list[Tensor]:
    """Run a batch of `number` pictures, some of them perhaps copies."""
    batch = torch.stack(pictures + pictures[:1] * (number - len(pictures)))
    if batch.is_cuda and batch.ndim == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)
    return [result.float().cpu() for result in run(batch)]


def spared(run: Callable[[], Result], size: BatchSize, device: torch.device) -> Result:
    """Run, and if the memory does not suffice again with half the batch, as often as that goes."""
    while True:
        try:
            return run()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size.number == 1:
                raise
        # Not above: there, the error still holds on to what is in memory.
        size.halve()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        sys.stderr.write(f"out of memory: batches of {size.number} from now on\n")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may do."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def is_device_fault(error: BaseException) -> bool:
    """Whether the device is at fault, rather than what was asked of it."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)

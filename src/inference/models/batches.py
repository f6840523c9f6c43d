"""Runs a model over pictures so that none of them can change another's result."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
Later: TypeAlias = Callable[[], Result]
"""Waits for what was begun on the device, and gives it; on a CPU nothing is left to wait for."""
_CUDA: Any = torch.cuda  # its events are untyped
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


def parts_of(pictures: Sequence[Item], size: BatchSize) -> Iterator[Sequence[Item]]:
    """Cut pictures into as many as one batch takes, the last part perhaps shorter."""
    number = size.number
    return (pictures[at : at + number] for at in range(0, len(pictures), number))


def start(
    pictures: Sequence[Tensor], size: BatchSize, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> Later[list[tuple[Tensor, ...]]]:
    """Begin to run a model over at most a batch of prepared pictures, float32 [C, H, W].

    Those of one shape share a batch. Every batch has `size` pictures, filled up with its own first:
    another shape would let the libraries choose another order of adding up, and change the last
    bits.
    """
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at, picture in enumerate(pictures):
        alike[tuple(picture.shape)].append(at)
    started = []
    for places in alike.values():
        size.on_batch()
        started.append((places, _start_filled([pictures[at] for at in places], size.number, run)))

    def read() -> list[tuple[Tensor, ...]]:
        outcomes: dict[int, tuple[Tensor, ...]] = {}
        for places, later in started:
            results = later()
            outcomes |= {
                at: tuple(result[row] for result in results) for row, at in enumerate(places)
            }
        return [outcomes[at] for at in range(len(pictures))]

    return read


def _start_filled(
    pictures: list[Tensor], number: int, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> Later[list[Tensor]]:
    """Begin with a batch of `number` pictures, some of them perhaps copies."""
    batch = torch.stack(pictures + pictures[:1] * (number - len(pictures)))
    if batch.is_cuda and batch.ndim == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)
    # What comes from CUDA without blocking lies in pinned memory, and is there after the event.
    results = [result.float().to("cpu", non_blocking=True) for result in run(batch)]
    if not batch.is_cuda:
        return lambda: results
    copied = _CUDA.Event()
    copied.record()

    def read() -> list[Tensor]:
        copied.synchronize()
        return results

    return read


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

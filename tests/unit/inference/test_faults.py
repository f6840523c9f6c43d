"""Which errors of torch a smaller batch may cure, and which are the device's own."""

import pytest
import torch

from inference.models.batches import is_device_fault, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"
        ),
    ],
)
def test_memory_that_is_short(error: Exception) -> None:
    """Whoever found no room: torch, the libraries, the driver. The device is sound."""
    assert is_out_of_memory(error)
    assert not is_device_fault(error)


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"), False),
        (ValueError("no frames"), False),
    ],
)
def test_other_errors(error: Exception, *, is_fault: bool) -> None:
    """No smaller batch cures them, and only what CUDA itself says is the device's fault."""
    assert not is_out_of_memory(error)
    assert is_device_fault(error) == is_fault

"""What the device remembers of a video between two frames, as it is kept: names, types, shapes."""

from inference.wire import Arrays

BLOCK = 4
"""Pixels a side over which the background averages luma; fewer where the picture has fewer."""


def measure_carry(arrays: Arrays) -> tuple[int, int]:
    """Check that the arrays are a carry, and return the height and width of its frames.

    A device that is given anything else dies of it, with the videos of others on it.

    Raises:
        ValueError: an array is missing or unknown, or its type or shape does not fit.
    """
    frame = arrays.get("hsv")
    if frame is None or frame.ndim != 4:
        raise ValueError("no frame")
    height, width = frame.shape[2:]
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    if found != _expected(height, width):
        raise ValueError(f"no carry of a frame of {width}x{height}: {found}")
    return height, width


def _expected(height: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    side = max(1, min(BLOCK, height, width))
    picture = ("uint8", (1, 3, height, width))
    blocks = ("float32", (height // side, width // side))
    return {
        **dict.fromkeys(("planes", "hsv", "reference"), picture),
        **dict.fromkeys(("background_mean", "background_previous"), blocks),
        **dict.fromkeys(("background_new_pictures", "second"), ("int64", ())),
        "background_pts_ms": ("float64", ()),
    }

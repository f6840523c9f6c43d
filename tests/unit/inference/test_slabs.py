"""Shared memory for frames."""

import os

import pytest

from inference.slabs import Slabs


def test_other_side_sees_frames() -> None:
    """What one holder of the descriptor writes, another reads."""
    ours = Slabs.create(2, 3 * 4 * 6 * 3)
    theirs = Slabs(os.dup(ours.fd), 2, 3 * 4 * 6 * 3)
    ours.frames(1, 3, 4, 6)[2] = 77

    seen = theirs.frames(1, 3, 4, 6)

    assert (seen[2] == 77).all()
    assert (seen[:2] == 0).all()
    assert (theirs.frames(0, 3, 4, 6) == 0).all()
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("slab", "count", "height", "width"),
    [(2, 1, 4, 6), (-1, 1, 4, 6), (0, 4, 4, 6), (0, 1, 0, 6), (0, 1, -4, -6), (0, 1, 4000, 6000)],
)
def test_impossible_frames(slab: int, count: int, height: int, width: int) -> None:
    """A slab that does not exist or is too small is refused: the sizes come from a decoder."""
    slabs = Slabs.create(2, 3 * 4 * 6 * 3)

    with pytest.raises(ValueError, match="cannot hold"):
        slabs.frames(slab, count, height, width)

    slabs.close()


def test_memory_cannot_be_cut() -> None:
    """A decoder cannot shrink the memory under its readers, which would kill them."""
    slabs = Slabs.create(2, 4096)

    with pytest.raises(PermissionError):
        os.ftruncate(slabs.fd, 0)

    slabs.close()


def test_pixels_outlive_the_descriptor() -> None:
    """Closing gives back the descriptor; a view that is still held stays readable."""
    slabs = Slabs.create(1, 4096)
    frames = slabs.frames(0, 1, 4, 6)

    slabs.close()

    assert (frames == 0).all()

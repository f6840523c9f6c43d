"""Parts of a journal say what was measured, in order."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.checkpoint import Measured, Part, Stretch, read_carry, read_stretch, write_part
from inference.features import DESCRIPTOR_SIZE, FrameFeatures
from inference.frames import Gap
from inference.wire import WireError


def make_measured(start: int, count: int) -> Measured:
    """Frames whose numbers can be told from each other; every third is described."""
    numbers = np.arange(start, start + count, dtype=np.float64)
    described = numbers % 3 == 0
    vectors = numbers[:, None] + np.arange(DESCRIPTOR_SIZE)
    return numbers * 40.1, FrameFeatures(
        content_score=numbers / 7,
        black_ratio=numbers / 11,
        freeze_difference=numbers / 13,
        frozen=numbers % 2 == 0,
        motion_area=numbers / 17,
        described=described,
        descriptor=(vectors * described[:, None]).astype(np.float32),
    )


def flatten(stretch: Stretch) -> list[object]:
    """Every frame's values and every gap, in order."""
    flat: list[object] = []
    for item in stretch.items():
        if isinstance(item, Gap):
            flat.append(item)
            continue
        pts_ms, features = item
        arrays = features.to_arrays()
        flat += [
            (pts, *(array[at].tobytes() for array in arrays.values()))
            for at, pts in enumerate(pts_ms.tolist())
        ]
    return flat


@given(st.lists(st.integers(0, 600), min_size=1, max_size=8))
def test_round_trip(counts: list[int]) -> None:
    """Batches and gaps come back in the order in which they went in, bit for bit."""
    stretch, total = Stretch(), 1
    stretch.add(make_measured(0, 1))
    for count in counts:
        if count:
            stretch.add(make_measured(total, count))
            total += count
        else:
            stretch.add(Gap(total * 40.1, total * 40.1 + 5, "damaged"))

    stretch.add(make_measured(total, 1))
    part = write_part(3, stretch, {"second": np.array(7)}, "settings", tolerant=False)
    again = read_stretch(part, "settings")

    assert again is not None
    assert flatten(again) == flatten(stretch)
    assert again.position_ms == stretch.position_ms == part.position_ms
    assert part.number == 3
    assert read_carry(part)["second"] == 7


def test_slices_are_small() -> None:
    """A long stretch is given back a few frames at a time: others must get their turn."""
    stretch = Stretch()
    stretch.add(make_measured(0, 3000))

    sizes = [len(item[0]) for item in stretch.items() if not isinstance(item, Gap)]

    assert max(sizes) <= 256
    assert sum(sizes) == 3000
    assert all(a >= b for a, b in pairwise(sizes))


def test_other_settings() -> None:
    """What was measured under other settings cannot be gone on from."""
    stretch = Stretch()
    stretch.add(make_measured(0, 2))

    part = write_part(0, stretch, {}, "5 fps", tolerant=False)

    assert read_stretch(part, "2 fps") is None


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x09{}", b"nonsense"])
def test_no_part(data: bytes) -> None:
    """Bytes that are no part are refused, with the error that the caller expects."""
    with pytest.raises(WireError):
        read_stretch(Part(0, 0.0, data, None), "settings")

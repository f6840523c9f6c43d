"""Which packets must be decoded."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.references import References


def make_references(kinds: str) -> References:
    """A picture for each letter, shown in this order: I IDR, P reference, b not, s with sets."""
    letters = np.array(list(kinds))
    return References(
        np.arange(len(kinds), dtype=np.int64) * 40,
        np.isin(letters, ["I", "P", "s"]),
        letters == "I",
        letters == "s",
    )


def mark(kinds: str, wanted: list[int]) -> str:
    """Mark what is needed for the pictures at these places."""
    needed = make_references(kinds).needed(np.array(wanted, np.int64) * 40)
    return "".join("^" if is_needed else "." for is_needed in needed)


@pytest.mark.parametrize(
    ("kinds", "wanted", "needed"),
    [
        ("IPPP", [0], "^..."),
        ("IPPP", [3], "^^^^"),
        ("IbPbPb", [2], "^.^..."),
        ("IbPbPb", [3], "^.^^.."),
        ("IPPIPP", [1], "^^...."),
        ("IPPIPP", [1, 3], "^^.^.."),
        ("IPPIPP", [5], "...^^^"),
        ("IPsIPP", [0], "^.^..."),
        ("PPIPP", [1], "^^..."),
        ("IPP", [], "..."),
        ("", [], ""),
    ],
)
def test_needed(kinds: str, wanted: list[int], needed: str) -> None:
    """Needed is what is wanted, and what leads to it within its group."""
    assert mark(kinds, wanted) == needed


def read_closure(wanted: set[int], refers: dict[int, set[int]]) -> set[int]:
    """Follow what each picture was decoded from."""
    known, todo = set(wanted), list(wanted)
    while todo:
        for source in refers[todo.pop()] - known:
            known.add(source)
            todo.append(source)
    return known


@given(st.text("IPb", min_size=1, max_size=40), st.data())
def test_nothing_that_is_referred_to_is_left_out(kinds: str, data: st.DataObject) -> None:
    """Whichever of the permitted references an encoder chose, all that is used is needed."""
    references = make_references(kinds)
    group: npt.NDArray[np.int64] = np.cumsum(references.is_idr)
    refers = {
        at: {
            before
            for before in range(at)
            if group[before] == group[at] and kinds[before] != "b" and kinds[at] != "I"
        }
        for at in range(len(kinds))
    }
    wanted = data.draw(st.sets(st.sampled_from(range(len(kinds)))))

    needed = references.needed(np.array(sorted(wanted), np.int64) * 40)

    closure = read_closure(wanted, refers)
    assert closure <= set(np.flatnonzero(needed).tolist())


def test_arrays_of_different_lengths() -> None:
    """Facts about another number of packets are refused."""
    whole = make_references("IPP")

    with pytest.raises(ValueError, match="each packet"):
        References(whole.pts, whole.is_reference[1:], whole.is_idr, whole.has_parameters)

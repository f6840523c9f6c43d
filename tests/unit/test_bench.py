"""What a figure says about itself."""

import json

import pytest
from bench.measure import Measurement
from bench.shots import SCENES, check_same


@pytest.mark.parametrize(
    ("ours", "peer", "rounds", "direction", "ratio", "reached"),
    [
        (9.0, 10.0, (), "at least", 0.9, True),
        (8.9, 10.0, (), "at least", 0.89, False),
        (9.1, 10.0, (), "at most", 0.91, False),
        (9.0, 10.0, (), "at most", 0.9, True),
        (20.0, 10.0, (0.8, 2.0, 0.85), "at least", 0.85, False),
    ],
)
def test_a_target(
    ours: float, peer: float, rounds: tuple[float, ...], direction: str, ratio: float, *,
    reached: bool,
) -> None:  # fmt: skip
    """It is met by the ratio, of the rounds in the middle where there are several."""
    found = Measurement("speed", ours, peer, "1/s", 0.9, direction, rounds)  # type: ignore[arg-type]

    written = json.loads(json.dumps(found.to_json()))

    assert found.ratio == pytest.approx(ratio)
    assert (written["reached"], written["target"]) == (reached, 0.9)


def test_without_a_target() -> None:
    """It is there to be known, and cannot be missed."""
    found = Measurement("speed", 1.0, 10.0, "1/s", None)

    assert found.is_reached
    assert found.target_text == "none"


def test_other_cuts_are_no_measurement() -> None:
    """Cuts may be a frame away from the peer's; more, or another number of them, ends the bench."""
    theirs = [100 * at for at in range(1, SCENES)]

    check_same([at + 1 for at in theirs], theirs)

    for ours in (theirs[1:], [at - 2 for at in theirs]):
        with pytest.raises(RuntimeError, match="other cuts"):
            check_same(ours, theirs)
    with pytest.raises(RuntimeError, match="finds"):
        check_same(theirs[1:], theirs[1:])

"""What is written on a dead letter, and what is recognised when it comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.rules.letter import MARK, is_redriven, plan_dead_letter, plan_redrive
from poller.rules.verdict import DeadLetter

TOO_LONG = DeadLetter("too_long", "it is too long", 3)
Attributes = dict[str, dict[str, str]]


def text(value: str) -> dict[str, str]:
    """A message attribute."""
    return {"DataType": "String", "StringValue": value}


originals = st.dictionaries(
    st.text(min_size=1) | st.sampled_from(["reason", "detail", "attempts", "video_id", MARK]),
    st.builds(text, st.text()),
    max_size=10,
)


def test_a_detail_is_bounded() -> None:
    """A detail of any length leaves room for the message that it is about."""
    made = next(plan_dead_letter({}, DeadLetter("too_long", "long " * 10_000, 1)))

    assert len(made["detail"]["StringValue"]) == 1000


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("reason", "attempts"), True),
        ((MARK,), True),
        (("reason",), False),
        (("attempts",), False),
        ((), False),
    ],
)
def test_what_counts_as_redriven(names: tuple[str, ...], *, expected: bool) -> None:
    """The mark, or both attributes that we add: an application may have one of its own."""
    assert is_redriven({name: text("1") for name in names}) == expected


@given(originals)
def test_a_dead_letter_has_ten_attributes_at_most(original: Attributes) -> None:
    """SQS takes ten: all that identifies the failure is there, and what gives way is counted."""
    first = next(plan_dead_letter(original, TOO_LONG))

    own = original.keys() - {"reason", "detail", "attempts", MARK}
    assert len(first) <= 10
    assert first["reason"]["StringValue"] == "too_long"
    assert is_redriven(first)
    assert len(own & first.keys()) == min(len(own), 8)
    assert "video_id" not in own or "video_id" in first


@given(originals)
def test_a_dead_letter_becomes_shorter_step_by_step(original: Attributes) -> None:
    """The detail goes first, then the reason; the mark goes last and leaves the original ones."""
    *told, bare = plan_dead_letter(original, TOO_LONG)

    assert all(map(is_redriven, told))
    assert told[-1].keys() - original.keys() == {MARK} - original.keys()
    assert set(map(len, told)) <= set(range(11))
    assert bare.keys() == original.keys() - {"reason", "detail", "attempts", MARK}


@given(originals)
def test_whatever_goes_back_is_recognised(letter: Attributes) -> None:
    """Letters of ours whole, those that SQS moved with the mark, in each of their forms."""
    forms = list(plan_redrive(letter))

    assert all(map(is_redriven, forms))
    assert all(len(form) <= 10 for form in forms)
    if is_redriven(letter):
        assert forms[0] == letter
    assert {form.get("video_id", {}).get("StringValue") for form in forms} == {
        letter.get("video_id", {}).get("StringValue")
    }

"""Which id of the application wins, and which two contradict each other."""

import pytest

from poller.rules.identity import ExternalId, Source, is_conflict, is_news


@pytest.mark.parametrize(
    ("bound", "offered", "expected"),
    [
        (("1", "body"), ("1", "body"), False),
        (("1", "body"), ("2", "body"), True),
        (("1", "attribute"), ("2", "attribute"), True),
        (("1", "body"), ("2", "attribute"), True),
        (("1", "attribute"), ("2", "body"), False),
        (("1", "key"), ("2", "body"), False),
        (("1", "body"), ("2", "key"), False),
        (("1", "key"), ("2", "filename"), False),
    ],
)
def test_conflicts(bound: tuple[str, str], offered: tuple[str, str], *, expected: bool) -> None:
    """Only two stated ids can contradict each other, and a stronger statement replaces."""
    first, second = (ExternalId(value, Source(source)) for value, source in (bound, offered))

    assert is_conflict(first, second) is expected


@pytest.mark.parametrize(
    ("offered", "bound", "expected"),
    [
        (None, ("1", "body"), False),
        (None, None, False),
        (("1", "key"), None, True),
        (("1", "body"), ("1", "body"), False),
        (("1", "body"), ("1", "filename"), True),
        (("1", "filename"), ("1", "body"), False),
        (("2", "filename"), ("1", "body"), False),
        (("2", "body"), ("1", "body"), True),
        (("2", "attribute"), ("1", "body"), True),
    ],
)
def test_what_is_news(
    offered: tuple[str, str] | None, bound: tuple[str, str] | None, *, expected: bool
) -> None:
    """An id that would be bound, replace one or contradict one; a weaker guess says nothing."""
    one, other = (None if x is None else ExternalId(x[0], Source(x[1])) for x in (offered, bound))

    assert is_news(one, other) is expected

"""Which id of the application wins, and which two contradict each other."""

import pytest

from poller.rules.identity import ExternalId, Source, is_conflict


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

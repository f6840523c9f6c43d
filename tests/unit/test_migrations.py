"""What the migrations ask of the server."""

import pytest

from poller.errors import SettingsError
from poller.postgres.migrations import check_pgvector


@pytest.mark.parametrize("version", ["0.8.0", "0.8", "0.10.1", "1.0.0"])
def test_a_pgvector_that_is_new_enough(version: str) -> None:
    """From 0.8 on, compared as numbers."""
    check_pgvector(version)


@pytest.mark.parametrize("version", ["0.7.4", "0.1.0"])
def test_a_pgvector_that_is_too_old(version: str) -> None:
    """The line says what there is and what to do."""
    with pytest.raises(SettingsError) as refused:
        check_pgvector(version)

    said = f"pgvector {version} is too old: install 0.8 or newer in the server"
    assert refused.value.lines == [said]

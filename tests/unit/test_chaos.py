"""What a run of chaos says at its end."""

from chaos.audit import Findings


def test_it_ends_with_a_verdict() -> None:
    """In the words of the table: all of them, or those that are not at 0."""
    overwritten = Findings(unended=["no breach"])
    broken = Findings(lost=["one"], left=["a file", "a process"])

    assert overwritten.verdict == (
        "All held: 0 lost, 0 doubled, 0 wrong, 0 dead letters amiss, 0 still in flight,"
        " 0 left behind, 0 errors nobody expects."
    )
    assert broken.verdict == "NOT held: 1 lost, 2 left behind."

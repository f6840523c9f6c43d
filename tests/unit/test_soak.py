"""What the soak takes for growth."""

from dataclasses import replace

from chaos.soak import Use, describe, find_growth

WARM = Use(100_000, 200_000, 3, 34, 3, 6, 2)


def test_growth_is_named() -> None:
    """Memory may grow by less than 5 %, everything else not at all."""
    steady = replace(WARM, control_bytes=104_999, device_bytes=150_000, connections=2)
    grown = replace(WARM, device_bytes=210_001, descriptors=35, tasks=4)

    assert find_growth(WARM, steady) == []
    assert find_growth(WARM, grown) == [
        "device_bytes: 200000 before, 210001 after",
        "descriptors: 34 before, 35 after",
        "tasks: 3 before, 4 after",
    ]


def test_it_ends_with_a_verdict() -> None:
    """In the words of the table: all of them, or those that have grown."""
    grown = find_growth(WARM, replace(WARM, device_bytes=210_001, tasks=4))

    assert describe(grown) == "NOT held: device_bytes, tasks."
    assert describe([]) == (
        "All held: control_bytes, device_bytes grew by 5% at most,"
        " processes, descriptors, tasks, connections, files not at all."
    )

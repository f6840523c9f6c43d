"""Holding the letters of the DLQ: for as long as they are hidden from others, and no longer."""

from poller.letters import HOLD_SECONDS, MAX_COLLECT_SECONDS, MAX_WALK_SECONDS, holding
from poller.sqs import Queue


async def test_a_walk_ends_while_its_letters_are_hidden(dead_letters: Queue) -> None:
    """What there was no time for is visible again, and the walk does not pass for a whole one."""
    for number in range(3):
        await dead_letters.send(f"letter {number}")

    async with holding(dead_letters, seconds=0) as hasty:
        seen = list(hasty.letters())
    left = await dead_letters.depth()
    async with holding(dead_letters) as patient:
        all_of_them = list(patient.letters())

    assert (seen, hasty.is_complete) == ([], False)
    assert left == {"visible": 3, "in_flight": 0, "delayed": 0}
    assert (len(all_of_them), patient.is_complete) == (3, True)


def test_the_last_letter_has_time() -> None:
    """Its questions to S3 and Postgres, their repetitions, and showing the others again."""
    assert MAX_COLLECT_SECONDS < MAX_WALK_SECONDS <= HOLD_SECONDS - 200

"""When to announce a video again whose work stands still."""

from datetime import datetime, timedelta


def is_due(since: datetime, resent_at: datetime | None, now: datetime, after: timedelta) -> bool:
    """Decide on a video that nobody has worked on since `since`.

    Whether its message still waits in the queue cannot be known: SQS lists nothing. One more does
    no harm, and must not become many while the service is down for days. So the first one is
    sent after `after`, and each further one when the time since then has doubled.

    Args:
        since: when its lease ran out, its retry was due, or it was bound or uploaded.
        resent_at: when it was last announced again; if before `since`, that had its effect.
        now: the time, by the clock of the other two.
        after: longer than any message of a healthy service stays hidden.
    """
    patience = after if resent_at is None else max(after, 2 * (resent_at - since))
    return now - since >= patience

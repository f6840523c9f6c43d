"""How long to wait before the next attempt."""

from datetime import timedelta

_BASE = timedelta(seconds=5)
_CAP = timedelta(minutes=10)


def backoff(attempt: int, jitter: float) -> timedelta:
    """Full-jitter exponential backoff: uniform in (0, min(cap, base x 2^(attempt-1))].

    Args:
        attempt: attempts made so far, 1 or more.
        jitter: uniform in 0..1, drawn by the caller.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(_CAP, _BASE * (1 << min(max(attempt - 1, 0), 20)))
    return max(timedelta(seconds=1), ceiling * jitter)

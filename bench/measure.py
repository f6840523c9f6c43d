"""A figure and its peer."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Measurement:
    """What we reach against what a peer reaches on the same machine in the same run."""

    what: str
    ours: float
    peer: float
    unit: str
    target: float | None
    """None: a figure to know, with nothing to reach."""
    direction: Literal["at least", "at most"] = "at least"
    """Whether the ratio of ours to the peer must reach or must not exceed the target."""
    rounds: tuple[float, ...] = ()
    """The ratio of each round, where there were several."""

    @property
    def ratio(self) -> float:
        """Ours over the peer's; the median of the rounds, where there were several."""
        return median(self.rounds) if self.rounds else self.ours / self.peer

    @property
    def is_reached(self) -> bool:
        """Whether the target is met, if there is one."""
        if self.target is None:
            return True
        if self.direction == "at least":
            return self.ratio >= self.target
        return self.ratio <= self.target

    @property
    def target_text(self) -> str:
        """The target as a reader wants it."""
        if self.target is None:
            return "none"
        return f"{self.direction} {self.target:g}"

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {**asdict(self), "ratio": round(self.ratio, 4), "reached": self.is_reached}

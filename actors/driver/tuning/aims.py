"""What the states of the law say to each other and to the shell around them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

from actors.driver.tuning.measure import Reading

LEAST = 2  # in flight: with one the GPU waits for the next while an answer is on its way
MOST_WINDOW_S = 4.0  # an undecided window is extended up to here


class Knob(StrEnum):
    LIMIT = "in flight"
    TOKENS = "request"


class Aim(NamedTuple):
    """Requests in flight and the token budget of each."""

    limit: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.limit} x {self.tokens}"


class Step(NamedTuple):
    """What to do: an aim, why, and the state to be in from now on (None: this one).

    `search`: the state is a new search from this aim.
    """

    aim: Aim
    reason: str
    state: State | None = None
    search: bool = False


class State(Protocol):
    """A state that measures. `aim` is the setting that is known to work; a trial runs beside it."""

    aim: Aim
    least_s: float

    def read(self, seen: Reading, busy: float | None) -> Step | None:
        """What follows from a window under the aim of the last step; None: measure on."""
        ...

    def refused(self) -> Step:
        """The server does not take what is tried."""
        ...

    def drop(self) -> Step:
        """What is tried cannot be measured now; it may be tried again."""
        ...


def patience_s(seen: Reading) -> float:
    """For how long an undecided window is extended."""
    return max(2.0, min(MOST_WINDOW_S, 4 * seen.latency_s))

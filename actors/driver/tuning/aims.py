"""What the states of the law say to each other and to the shell around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Room:
    """How far each knob may go: asked anew each time, since caps and ceilings are learnt on the way."""

    limit: Callable[[int, Reading], int]  # the most in flight of requests of so many tokens
    least: Callable[[Reading], int]  # fewer in flight leave the server idle
    larger: Callable[[Aim, float, Reading], Aim | None]  # with requests larger by a factor; None: they cannot be
    unseen: Callable[[], bool]  # it may be a hosted API, whose quota shows only once what was saved up is spent
    pinned: frozenset[Knob] = frozenset()
    merges: int = 0  # up to so many tokens of what waits into one batch: only a request's size is tried by a canary


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

"""How many rows a test embeds, and how often, so that it says something and ends in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["sync", "async"]

LEAST_ROUNDS, MOST_ROUNDS = 2, 9
_RUN_OVERHEAD_S = 6.0  # Ray starts and ends, the report is written
_FEWEST_ROWS = 50  # a request of the synchronous way
_MOST_VECTOR_BYTES = 2 << 30  # of one run, on disk until they have been compared


@dataclass(frozen=True, slots=True)
class Pace:
    """What a server gave when it was asked briefly: rows/s one request at a time, and several at once."""

    alone: float
    together: float

    def of(self, mode: Mode) -> float:
        return self.alone if mode == "sync" else max(self.alone, self.together)


def choose_rows(pace: Pace, modes: Sequence[Mode], seconds: float, dim: int, repeat: int | None = None) -> int:
    """As many as can be embedded `repeat` times (LEAST_ROUNDS) in each mode in so many seconds, going by `pace`."""
    for_a_round = seconds / (repeat or LEAST_ROUNDS) - _RUN_OVERHEAD_S * len(modes)
    row_s = sum(1 / pace.of(mode) for mode in modes)
    fitting = int(max(0.0, for_a_round) / row_s)
    return max(_FEWEST_ROWS, min(fitting, _MOST_VECTOR_BYTES // (4 * dim)))


def rounds(
    modes: Sequence[Mode], seconds: float, clock: Callable[[], float], repeat: int | None = None
) -> Iterator[tuple[Mode, ...]]:
    """The modes of each round, in turn in the one order and the other, so that neither gains by a drift.

    There are `repeat` rounds; with None, LEAST_ROUNDS at least, and then one more as long as the longest so far
    would still end within `seconds` on the `clock`, up to MOST_ROUNDS.
    """
    longest = 0.0
    for number in range(repeat or MOST_ROUNDS):
        started = clock()
        if not repeat and number >= LEAST_ROUNDS and started + longest > seconds:
            return
        yield tuple(modes) if number % 2 == 0 else tuple(reversed(modes))
        longest = max(longest, clock() - started)

"""What a server held when it refused, beside what it held when it took requests: is it for what it holds?"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from actors.driver.tuning.measure import History
from actors.messages import Completion, Failure

BEFORE_S = 3.0  # of requests that it took, so long before
MOST = 60  # of them, and of the refusals, that are looked at
OUTNUMBER = 3.0  # accepted at such a level for each refusal: it was not for what was held
LOW, OUTNUMBER_LOW = 0.5, 1.5  # where so much less was held than is taken at other times, fewer will do
SURELY = 4  # requests: that many fewer, since what was held is known to within a few
NEAR, ENOUGH = 0.3, 4  # of an answer's time is a refusal's: what was held is known well. So many taken are enough
USUAL = 0.85  # rank among what is held when it takes requests; a cap refuses only what ranks above all of it


@dataclass(frozen=True, slots=True)
class Episode:
    """Of each refusal: `requests` held beside it, and `needed`, their texts with its own. `taken_*`: likewise."""

    requests: list[int]
    needed: list[int]
    taken_requests: list[int]
    taken_needed: list[int]
    near: bool  # what was held at a refusal is known well

    @classmethod
    def of(cls, refused: Sequence[Failure], history: History, complete_to: float) -> Episode:
        held = [history.held(each.at - each.latency_s, each.at) for each in refused]
        way_s = statistics.median(each.latency_s for each in refused)
        began = min(each.at for each in refused)
        sent = history.sent_between(began - BEFORE_S, complete_to - history.longest_s)
        sent = sent[:: max(1, len(sent) // MOST)]
        beside = [history.held(_sent(each), min(each.at, _sent(each) + way_s)) for each in sent]  # itself among it
        answer_s = statistics.median(each.latency_s for each in sent) if sent else 0.0
        return cls(
            requests=[len(each) for each in held],
            needed=[_texts(each) + failure.rows for each, failure in zip(held, refused, strict=True)],
            taken_requests=[len(each) - 1 for each in beside],
            taken_needed=[_texts(each) for each in beside],
            near=len(sent) >= ENOUGH and way_s < NEAR * answer_s,
        )

    def is_usual(self) -> bool:
        """Whether no more was held than when it takes requests."""
        ranks = _rank(self.requests, self.taken_requests), _rank(self.needed, self.taken_needed)
        return self.near and max(ranks) < USUAL

    def is_low(self) -> bool:
        """Whether far less was held than is taken at other times, and it takes many then."""
        most = max(self.taken_requests, default=0) + 1
        low = statistics.median(self.requests) <= min(LOW * most, most - SURELY)
        low &= statistics.median(self.needed) <= LOW * max(self.taken_needed, default=0)
        return low and self._is_outnumbered(OUTNUMBER_LOW)

    def is_contradicted(self) -> bool:
        """Whether it took far more often what it refuses now: no cap in requests, and none in texts."""
        return self._is_outnumbered(OUTNUMBER)

    def _is_outnumbered(self, times: float) -> bool:
        enough = times * len(self.requests)
        as_many = sum(each >= statistics.median(self.requests) for each in self.taken_requests)
        as_much = sum(each >= statistics.median(self.needed) for each in self.taken_needed)
        return as_many >= enough and as_much >= enough


def _sent(each: Completion) -> float:
    return each.at - each.latency_s


def _texts(held: Sequence[Completion]) -> int:
    return sum(each.rows for each in held)


def _rank(levels: Sequence[int], usual: Sequence[int]) -> float:
    """Where these levels stand among the usual ones: 0 below all of them, 1 above all."""
    ordered = sorted(usual)
    below = sum(bisect_left(ordered, each) + bisect_right(ordered, each) for each in levels)
    return 0.5 * below / max(1, len(levels) * len(ordered))

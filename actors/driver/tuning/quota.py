"""Pacing under a quota: between two moments at which the bucket was empty, what was admitted is the quota."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from actors.driver.tuning.measure import History
from actors.messages import Failure

BELOW = 0.985  # of the quota is asked for
CREEP, CREEP_S = 1.005, 8.0
REST, REST_S = 0.7, 2.0  # after a refusal: so much of the quota for so long, for the bucket to fill a little
FIRST = 0.5  # of what was delivered when it first refused: some of that was saved up
RAISE, RAISE_S = 1.5, 2.0  # of a pace that is not refused, while the quota is not known
LEAST_S = 1.0  # between two empty moments
FORGET_S = 12.0
TEST, TEST_PACE = 4, 1.4  # larger requests at a higher pace: is the quota of requests or of tokens?
SETTLE_S = 2.5  # after which refusals are of the larger requests
WORTH = 1.25
ENOUGH, ENOUGH_S = 12, 4.0  # admitted requests, or seconds, that make an estimate
COME_S = 0.3  # after the slowest answer, what was sent has come


class Rate(NamedTuple):
    """Tokens and requests a second."""

    tokens: float
    requests: float

    def times(self, factor: float) -> Rate:
        return Rate(factor * self.tokens, factor * self.requests)


@dataclass(slots=True)
class Quota:
    """Begins with the first Retry-After. `pace` is what to ask for, `batch_tokens` the size of requests."""

    batch_tokens: int
    pace: Rate
    known: bool = False
    in_requests: bool = False  # else in tokens
    _quota: Rate = field(default_factory=lambda: Rate(0.0, 0.0))
    _empty: float | None = None  # the moment, from which is measured, when nothing was left
    _next: float | None = None  # a later one
    _ignore_to: float = field(default=-1.0)
    _since: float = 0.0  # the last change of pace
    _refused_at: float = 0.0
    _before: tuple[int, Rate] | None = None  # size and quota before the test that runs
    _tested: bool = False
    _resting: bool = False

    def refuse(self, failures: list[Failure]) -> None:
        """Refusals with Retry-After; those of one burst are one moment."""
        for each in sorted(failures, key=lambda failure: failure.at):
            self._refused_at = max(self._refused_at, each.at)
            sent = each.at - each.latency_s
            if sent > self._ignore_to:
                self._ignore_to = each.at + (each.retry_after_s or 0.0)
                self._next = self._next or sent

    def decide(self, history: History, complete_to: float, largest: int) -> str | None:
        """A reason when pace or size changed. `largest` is the most tokens that a request may have."""
        self._since = self._since or complete_to
        if self._next is not None:
            return self._refused(self._next, history, complete_to, largest)
        if self._resting and complete_to - self._since > REST_S:
            self._resting = False
            return self._ask(self._quota.times(BELOW), complete_to, "just below the quota")
        unknown = self._before or not self.known
        if complete_to - max(self._since, self._refused_at) > (RAISE_S if unknown else CREEP_S):
            return self._ask(self.pace.times(RAISE if unknown else CREEP), complete_to, "not refused")
        return None

    def _refused(self, empty: float, history: History, now: float, largest: int) -> str | None:
        if now < empty + COME_S + 1.5 * history.longest_s:
            if self.known and not self._before and not self._resting:
                return self._rest(now)
            return None
        self._next = None
        began = self._empty
        if began is None:
            self._empty = empty
            return None
        seconds = empty - began
        admitted = history.sent_between(began, empty)
        if seconds < LEAST_S or (len(admitted) < ENOUGH and seconds < ENOUGH_S):
            return None
        if seconds > FORGET_S:
            self._empty = empty
        self._quota = Rate(sum(each.tokens for each in admitted), len(admitted)).times(1 / seconds)
        self.known = True
        if self._before:
            return self._judge(*self._before, empty, now, largest)
        return self._test(now, largest) or self._rest(now)

    def _test(self, now: float, largest: int) -> str | None:
        larger = min(TEST * self.batch_tokens, largest)
        if self._tested or larger < 1.5 * self.batch_tokens:
            self._tested = True
            return None
        self._before = self.batch_tokens, self._quota
        self._empty = None
        self._ignore_to = now + SETTLE_S
        factor = larger / self.batch_tokens
        self.batch_tokens = larger
        pace = Rate(TEST_PACE * self._quota.tokens, TEST_PACE * self._quota.requests / factor)
        return self._ask(pace, now, "are larger requests given more?")

    def _judge(self, size: int, before: Rate, empty: float, now: float, largest: int) -> str:
        """The end of a test."""
        self._before = None
        if self._quota.tokens < WORTH * before.tokens:
            self._tested, self._empty = True, empty
            self.batch_tokens, self._quota = size, before
            return self._rest(now)
        self.in_requests = self._quota.requests > before.requests / WORTH
        return self._test(now, largest) or self._rest(now)

    def _rest(self, now: float) -> str:
        self._resting = True
        return self._ask(self._quota.times(REST), now, "quota met")

    def _ask(self, pace: Rate, now: float, why: str) -> str:
        self.pace, self._since = pace, now
        return f"{why}: paced at {pace.tokens:.0f} tokens/s, {pace.requests:.1f} requests/s"

"""Pacing under a quota: between two moments at which the bucket was empty, what was admitted is the quota.

It is more where the bucket ran over between them; so the pace is brought near first, and then measured. Larger
requests are tried next, no more of them a second than are known to be admitted: if none is refused, the quota is of
requests, else of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from actors.driver.tuning.measure import History
from actors.messages import Failure

BELOW = 0.985  # of the quota is asked for
REST, REST_S = 0.85, 1.0  # after a refusal: so much of it for so long, for the bucket to fill a little
FIRST = 1.3  # of what was delivered on average until it first refused
RAISE, RAISE_S = 1.1, 1.2  # of a pace that is not refused, while the quota is not known
RAISE_NEAR, RAISE_LARGER = 1.05, 2.0  # when it is nearly known, and while larger requests are tried
ABOVE, NEAR = 1.15, 0.8  # of what seems to be the quota: to meet it again; never less since then: nothing ran over
CREEP, MOST_CREEP, CREEP_S = 0.005, 0.02, 8.0  # of a pace just below it: the step doubles while none is refused
LOWERED, LOWERED_SOON, SOON_S = 0.97, 0.85, 10.0  # by one refusal, and by one that follows another soon
LARGER = 4  # as large a request, to see if the quota is of requests or of tokens
SPENT_S = 3.0  # so long at the known number of requests: what a bucket of tokens had saved up is spent
WORTH = 1.25  # as many tokens
ENOUGH, ENOUGH_S, LEAST_S = 12, 4.0, 1.0  # admitted requests, or seconds, that make an estimate
COME_S = 0.3  # after the slowest answer, what was sent has come
VAIN = 4  # times refused and nothing admitted: a request is more than the bucket ever holds
LEAST_TOKENS = 1024


class Rate(NamedTuple):
    """Tokens and requests a second."""

    tokens: float
    requests: float

    def times(self, factor: float) -> Rate:
        return Rate(factor * self.tokens, factor * self.requests)


NOTHING = Rate(0.0, 0.0)


class Stage(Enum):
    LEARN = auto()  # the quota
    TEST = auto()  # whether it is of requests
    KEEP = auto()


@dataclass(slots=True)
class Quota:
    """Begins with the first Retry-After. `pace` is what to ask for, `batch_tokens` the size of requests."""

    batch_tokens: int
    pace: Rate
    stage: Stage = Stage.LEARN
    in_tokens: bool = False  # known to be; in neither: not known
    in_requests: bool = False
    _quota: Rate = NOTHING  # with requests of this size
    _before: tuple[int, Rate] = (0, NOTHING)  # size and quota before the test
    _empty: float | None = None  # the moment, from which is measured, when nothing was left
    _lowest: float = 0.0  # tokens/s asked for since then
    _next: tuple[float, float] | None = None  # a later one, and the lowest until then
    _ignore_to: float = -1.0
    _since: float = 0.0  # the last change of pace
    _resting: bool = False
    _near: bool = False  # the quota is nearly known
    _sure: bool = False  # nothing ran over while it was measured
    _creep: float = CREEP
    _vain: int = 0
    _came: bool = False  # something, since the last change of pace

    @property
    def tokens_per_s(self) -> float | None:
        """None: requests alone are paced."""
        alone = self.in_requests and not self.in_tokens and self.stage is not Stage.TEST
        return None if alone else self.pace.tokens

    @property
    def requests_per_s(self) -> float | None:
        if self.stage is Stage.TEST:
            return BELOW * self._before[1].requests
        return self.pace.requests if self.in_requests else None

    def refuse(self, failures: list[Failure], came: bool) -> None:
        """Refusals with Retry-After, those of one burst being one moment; and whether anything was admitted."""
        self._came |= came
        self._vain = 0 if came else self._vain
        for each in sorted(failures, key=lambda failure: failure.at):
            sent = each.at - each.latency_s
            if sent > self._ignore_to:
                self._ignore_to = each.at + (each.retry_after_s or 0.0)
                self._next = self._next or (sent, self._lowest)
                self._vain += 1

    def decide(self, history: History, complete_to: float, largest: int) -> str | None:
        """A reason when pace or size changed. `largest` is the most tokens that a request may have."""
        self._since = self._since or complete_to
        if self.batch_tokens > largest:
            return self._shrink(complete_to, largest)
        if self._vain >= VAIN:
            return self._halve(complete_to)
        if self._next is not None:
            return self._refused(*self._next, history, complete_to)
        waited = complete_to - self._since
        if self._resting:
            if waited <= REST_S:
                return None
            self._resting = False
            return self._test(complete_to, largest) or self._keep(complete_to)
        if self.stage is Stage.KEEP:
            return self._creep_up(complete_to) if waited > CREEP_S else None
        return self._raise(complete_to, largest) if self._came and waited > RAISE_S else None

    # what was refused

    def _refused(self, empty: float, lowest: float, history: History, now: float) -> str | None:
        """Less is asked for at once; when all that was sent until then has come, it is judged."""
        if now < empty + COME_S + 1.5 * history.longest_s:
            return None if self._resting else self._rest(now)
        began, self._next, self._resting = self._empty, None, self.stage is Stage.KEEP
        if began is None:
            self._empty, self._lowest = empty, self.pace.tokens
            return None
        seconds, admitted = empty - began, history.sent_between(began, empty)
        if not admitted or seconds < LEAST_S or (len(admitted) < ENOUGH and seconds < ENOUGH_S):
            return None
        self._empty, self._lowest = empty, self.pace.tokens
        found = Rate(sum(each.tokens for each in admitted), len(admitted)).times(1 / seconds)
        if self.stage is Stage.LEARN:
            return self._learn(found, lowest, now)
        if self.stage is Stage.TEST:
            return self._end_test(found, now)
        self._met(found, LOWERED_SOON if seconds < SOON_S else LOWERED)
        return self._rest(now)

    def _learn(self, found: Rate, lowest: float, now: float) -> str:
        both = self.in_tokens and self.in_requests
        self._quota = Rate(found.tokens, self._quota.requests) if both else found
        self._sure = self._near or lowest >= NEAR * found.tokens
        return self._rest(now)

    def _end_test(self, found: Rate, now: float) -> str:
        size, self._quota = self._before
        self.in_tokens = True
        if self.in_requests or found.tokens >= WORTH * self._quota.tokens:
            # of requests, as it was met with smaller ones, and of tokens, as it is met now
            self.in_requests, self.stage, self._near = True, Stage.LEARN, False
            return self._learn(found, 0.0, now)
        self.stage, self.batch_tokens = Stage.KEEP, size
        return self._rest(now)

    def _met(self, found: Rate, lowered: float) -> None:
        """The quota again; of two, the nearer one. Where the bucket ran over, less was admitted than it is."""
        known, self._creep = self._quota, CREEP
        tokens, requests = (max(new, lowered * old) for new, old in zip(found, known, strict=True))
        if self.in_tokens and self.in_requests:
            nearer = found.tokens / known.tokens > found.requests / known.requests
            tokens, requests = (tokens, known.requests) if nearer else (known.tokens, requests)
        self._quota = Rate(tokens, requests)

    # what is asked for

    def _raise(self, now: float, largest: int) -> str | None:
        if self.stage is Stage.LEARN:
            return self._ask(self.pace.times(RAISE_NEAR if self._near else RAISE), now, "not refused")
        if self.pace.requests < BELOW * self._before[1].requests:
            return self._ask(self.pace.times(RAISE_LARGER), now, "not refused")
        if now - self._since < SPENT_S:
            return None
        self.in_requests = True
        self._quota = Rate(self.pace.tokens / BELOW, self._before[1].requests)
        self._empty = None  # so few requests were asked for that the bucket may have run over
        return self._test(now, largest) or self._keep(now)

    def _test(self, now: float, largest: int) -> str | None:
        """Begin to ask for as much in larger requests, where that is not known to be in vain."""
        larger = min(LARGER * self.batch_tokens, largest)
        if self.in_tokens or larger < 1.5 * self.batch_tokens:
            return None
        self.stage = Stage.TEST
        self._before = self.batch_tokens, self._quota
        factor, self.batch_tokens = larger / self.batch_tokens, larger
        tokens, requests = self._quota.times(min(RAISE_LARGER, factor) * BELOW)
        return self._ask(Rate(tokens, requests / factor), now, "are larger requests given more?")

    def _keep(self, now: float) -> str:
        self.in_tokens |= not self.in_requests  # or there is nothing to be gained by knowing
        if not self._sure:
            self.stage, self._near, self._lowest = Stage.LEARN, True, ABOVE * self._quota.tokens
            return self._ask(self._quota.times(ABOVE), now, "about the quota")
        self.stage = Stage.KEEP
        return self._ask(self._quota.times(BELOW), now, "just below the quota")

    def _creep_up(self, now: float) -> str:
        step, self._creep = self._creep, min(MOST_CREEP, 2 * self._creep)
        return self._ask(self.pace.times(1 + step), now, "not refused")

    def _halve(self, now: float) -> str:
        self._vain, self._next = 0, None
        if self.stage is Stage.TEST:
            self.batch_tokens, self._quota = self._before
            return self._keep(now)
        self.batch_tokens = max(LEAST_TOKENS, self.batch_tokens // 2)
        return self._ask(self.pace, now, f"nothing is admitted: requests of {self.batch_tokens} tokens")

    def _shrink(self, now: float, largest: int) -> str:
        """So large a request is more than the server's memory holds."""
        if self.stage is not Stage.TEST:
            self.batch_tokens = largest
            return self._rest(now)
        self.batch_tokens, self._quota = self._before
        return self._test(now, largest) or self._keep(now)

    def _rest(self, now: float) -> str:
        self._resting = True
        known = self._before[1] if self.stage is Stage.TEST else self._quota
        return self._ask((known if known.tokens else self.pace).times(REST), now, "quota met")

    def _ask(self, pace: Rate, now: float, why: str) -> str:
        self.pace, self._since = pace, max(now, self._ignore_to)  # nothing is sent until then
        self._lowest, self._came = min(self._lowest, pace.tokens), False
        return f"{why}: paced at {pace.tokens:.0f} tokens/s, {pace.requests:.1f} requests/s"

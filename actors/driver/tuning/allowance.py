"""What may be asked for at most, by the word of the user and by that of the server's own headers."""

from __future__ import annotations

from dataclasses import dataclass

from actors.driver.tuning.base import Bounds
from actors.driver.tuning.measure import History
from actors.messages import Allowance

LEAST_S = 0.1  # a window that ends sooner is over
SAME = 0.05  # a rate that has moved by less is the same
LATELY_S = 2.0
NEAR = 0.8  # of a rate: it is what holds the job back


@dataclass(slots=True)
class Told:
    """Requests and tokens a second at most; None: any number.

    Asking for what remains, spread over the time until it is full again, is right for both kinds of limit: a fixed
    window is used up just when it ends, and a bucket that fills all the time is kept half full, so that it lets
    through exactly what flows in.
    """

    bounds: Bounds
    requests_per_s: float | None = None
    tokens_per_s: float | None = None

    def hear(self, left: Allowance | None, now: float) -> None:
        """The newest that the server said, at `now`."""
        passed = now - left.at if left else 0.0
        requests = _rate(left.requests, left.requests_reset_s - passed) if left else None
        tokens = _rate(left.tokens, left.tokens_reset_s - passed) if left else None
        self.requests_per_s = _steady(self.requests_per_s, lesser(requests, self.bounds.requests_per_s))
        self.tokens_per_s = _steady(self.tokens_per_s, lesser(tokens, self.bounds.tokens_per_s))

    def holds_back(self, history: History, complete_to: float) -> bool:
        """Whether what has come lately is about all that may be asked for."""
        if self.requests_per_s is None and self.tokens_per_s is None:
            return False
        done = history.between(complete_to - LATELY_S, complete_to)
        tokens_per_s, requests_per_s = sum(each.tokens for each in done) / LATELY_S, len(done) / LATELY_S
        by_requests = self.requests_per_s is not None and requests_per_s > NEAR * self.requests_per_s
        return by_requests or (self.tokens_per_s is not None and tokens_per_s > NEAR * self.tokens_per_s)


def _rate(remaining: float | None, seconds: float) -> float | None:
    return None if remaining is None or seconds < LEAST_S else max(1.0, remaining) / seconds


def lesser(*rates: float | None) -> float | None:
    """The lowest of those that are given."""
    return min((rate for rate in rates if rate is not None), default=None)


def _steady(before: float | None, now: float | None) -> float | None:
    return before if before and now and abs(now / before - 1) < SAME else now

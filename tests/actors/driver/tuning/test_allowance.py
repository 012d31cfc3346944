"""What may be asked for by the user's word and the server's: kept to, and known for what it is."""

from __future__ import annotations

import pytest

from actors.driver.tuning.allowance import Told
from actors.driver.tuning.base import Bounds, Observation
from actors.driver.tuning.knee import Knee
from actors.messages import Allowance, Completion

TICK_S = 0.25


class Limiter:
    """Tokens: a bucket that fills all the time, or one that is filled at the turn of each window."""

    def __init__(self, per_s: float, window_s: float, turns: bool) -> None:
        self.size, self.window_s, self.turns = per_s * window_s, window_s, turns
        self.left, self.now, self.refused = self.size, 0.0, 0

    def ask(self, tokens: float, now: float) -> bool:
        if self.turns:
            self.left = self.size if int(now / self.window_s) > int(self.now / self.window_s) else self.left
        else:
            self.left = min(self.size, self.left + self.size / self.window_s * (now - self.now))
        self.now = now
        taken = self.left >= tokens
        self.left -= tokens if taken else 0
        self.refused += not taken
        return taken

    def says(self) -> Allowance:
        rest = self.window_s - self.now % self.window_s
        full_s = rest if self.turns else (self.size - self.left) / self.size * self.window_s
        return Allowance(self.now, None, 0.0, self.left, full_s)


@pytest.mark.parametrize("turns", [False, True], ids=["fills all the time", "filled at each turn"])
@pytest.mark.parametrize("request_tokens", [500, 5000])
def test_what_the_headers_tell_is_used_and_never_exceeded(turns: bool, request_tokens: int) -> None:
    limiter, told = Limiter(per_s=10_000.0, window_s=60.0, turns=turns), Told(Bounds())
    now, taken = 0.0, 0
    while now < 600:
        taken += request_tokens * limiter.ask(request_tokens, now)
        told.hear(limiter.says(), now)
        now += max(0.05, request_tokens / told.tokens_per_s if told.tokens_per_s else 0.0)
    assert limiter.refused == 0
    assert taken > 0.93 * 600 * 10_000


def test_the_users_word_and_the_servers_are_both_kept() -> None:
    told = Told(Bounds(requests_per_s=5.0, tokens_per_s=1000.0))
    told.hear(None, 0.0)
    assert (told.requests_per_s, told.tokens_per_s) == (5.0, 1000.0)
    told.hear(Allowance(0.0, 20.0, 10.0, 90_000.0, 10.0), 0.0)
    assert (told.requests_per_s, told.tokens_per_s) == (2.0, 1000.0)
    told.hear(Allowance(0.0, 20.0, 10.0, 90_000.0, 10.0), 60.0)  # that window is over
    assert (told.requests_per_s, told.tokens_per_s) == (5.0, 1000.0)


def test_a_rate_that_hardly_moves_is_the_same() -> None:
    told = Told(Bounds())
    rates = set()
    for i in range(20):
        told.hear(Allowance(float(i), 100.0 + i % 3, 10.0, None, 0.0), float(i))
        rates.add(told.requests_per_s)
    assert len(rates) == 1


def test_while_the_pace_holds_the_job_back_nothing_is_measured() -> None:
    law, now, reasons = Knee(Bounds(tokens_per_s=10_000.0)), 0.0, []
    for tick in range(80):
        now = TICK_S * (tick + 1)
        done = (Completion(now - 0.1, 0.05, 25, 2500, 2500),)  # just what may be asked for
        decision = law.decide(Observation(now, TICK_S, done, (), 1, False, now, 0.0))
        reasons.append(decision.reason)
        assert decision.setting.tokens_per_s == 10_000.0
    assert decision.paced
    assert set(reasons[20:]) == {"what may be asked for is the limit: nothing measured"}

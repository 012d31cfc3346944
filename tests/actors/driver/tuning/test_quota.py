"""The pace under a quota, against token buckets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from actors.driver.tuning.measure import History
from actors.driver.tuning.quota import LEAST_TOKENS, Quota, Rate
from actors.messages import Completion
from tests.actors.driver.tuning.ground import failure

STEP_S, WAY_S, LATENCY_S = 0.01, 0.02, 0.1
LARGEST = 1 << 17


@dataclass
class Bucket:
    """A server that admits so many tokens and requests a second, saved up for `burst_s`, empty at first."""

    rate: Rate
    burst_s: float = 2.0
    retry_after_s: float = 1.0
    tokens: float = 0.0
    requests: float = 0.0

    def pass_by(self, seconds: float) -> None:
        self.tokens = min(self.tokens + seconds * self.rate.tokens, self.burst_s * self.rate.tokens)
        self.requests = min(self.requests + seconds * self.rate.requests, self.burst_s * self.rate.requests)

    def admits(self, tokens: int) -> bool:
        if self.tokens < tokens or self.requests < 1:
            return False
        self.tokens, self.requests = self.tokens - tokens, self.requests - 1
        return True


@dataclass
class Told:
    """What came of asking as the quota's pace says. Rates are of the last `late_s` seconds."""

    admitted: Rate
    refused: int
    refused_late: int


def ask(quota: Quota, bucket: Bucket, seconds: float, late_s: float = 20.0) -> Told:
    history, now, free, shut = History(), 0.0, 0.0, 0.0
    admitted: list[int] = []
    refused: list[float] = []
    while now < seconds:
        now += STEP_S
        bucket.pass_by(STEP_S)
        failures, came = [], False
        if now >= max(free, shut):
            size = quota.batch_tokens
            if bucket.admits(size):
                history.add([Completion(now + LATENCY_S, LATENCY_S, 10, size, size)])
                came = True
                admitted += [size] * (now > seconds - late_s)
            else:
                failures = [failure(now + WAY_S, "overloaded", retry_after_s=bucket.retry_after_s, latency_s=WAY_S)]
                refused.append(now)
                shut = now + bucket.retry_after_s
            costs = (size / (quota.tokens_per_s or 1e12), 1 / (quota.requests_per_s or 1e12))
            free = max(free, now - 0.1) + max(costs)
        quota.refuse(failures, came)
        quota.decide(history, now - LATENCY_S, LARGEST)
    late = Rate(sum(admitted) / late_s, len(admitted) / late_s)
    return Told(late, len(refused), sum(at > seconds - late_s for at in refused))


@pytest.mark.parametrize("first", [0.4, 1.0, 3.0])
@pytest.mark.parametrize(("burst_s", "retry_after_s"), [(1.0, 0.5), (2.0, 1.0), (5.0, 1.0), (10.0, 2.0)])
def test_of_tokens(first: float, burst_s: float, retry_after_s: float) -> None:
    quota = Quota(8192, Rate(200_000, 24.4).times(first))
    told = ask(quota, Bucket(Rate(200_000, 1e6), burst_s, retry_after_s), 90)
    assert quota.in_tokens
    assert told.admitted.tokens >= 0.9 * 200_000
    assert told.refused <= 16
    assert told.refused_late <= 2


@pytest.mark.parametrize("first", [0.4, 1.0, 3.0])
@pytest.mark.parametrize(("burst_s", "retry_after_s"), [(1.0, 0.5), (2.0, 1.0), (5.0, 1.0), (10.0, 2.0)])
def test_of_requests_which_then_are_larger(first: float, burst_s: float, retry_after_s: float) -> None:
    quota = Quota(8192, Rate(82_000, 10).times(first))
    told = ask(quota, Bucket(Rate(1e9, 10), burst_s, retry_after_s), 120)
    assert (quota.in_tokens, quota.in_requests) == (False, True)
    assert quota.batch_tokens == LARGEST
    assert told.admitted.requests >= 0.9 * 10
    assert told.refused <= 16
    assert told.refused_late <= 2


def test_of_both() -> None:
    quota = Quota(8192, Rate(82_000, 10))
    told = ask(quota, Bucket(Rate(250_000, 10)), 90)
    assert (quota.in_tokens, quota.in_requests) == (True, True)
    assert told.admitted.tokens >= 0.93 * 250_000
    assert told.refused_late <= 3


def test_a_request_that_is_more_than_the_bucket_holds_is_made_smaller() -> None:
    quota = Quota(8192, Rate(10_000, 1.2))
    told = ask(quota, Bucket(Rate(3_000, 1e6)), 240, 60)
    assert LEAST_TOKENS <= quota.batch_tokens < 6_000
    assert told.admitted.tokens > 0.2 * 3_000


def test_a_quota_that_shrinks_is_followed() -> None:
    quota, bucket = Quota(8192, Rate(200_000, 24)), Bucket(Rate(200_000, 1e6))
    ask(quota, bucket, 60)
    bucket.rate = Rate(100_000, 1e6)
    quota = Quota(quota.batch_tokens, quota.pace)
    assert ask(quota, bucket, 60).refused_late <= 2


def test_larger_requests_are_never_more_a_second_than_were_admitted() -> None:
    quota = Quota(8192, Rate(82_000, 10))
    bucket = Bucket(Rate(1e9, 10))
    assert quota.requests_per_s is None
    ask(quota, bucket, 90)
    assert quota.tokens_per_s is None
    assert quota.requests_per_s is not None
    assert quota.requests_per_s <= 1.1 * 10

"""The pace under a quota: over time, no more than is ordered."""

from __future__ import annotations

import pytest

from actors.embedder.pace import CATCH_UP_S, Pace
from actors.messages import Order


def order(**rates: float) -> Order:
    return Order(limit=8, batch_rows=10, batch_tokens=1000, **rates)


def sent(pace: Pace, to: Order, tokens: int, late_s: float, seconds: float = 10.0) -> int:
    """Requests that go when each is `late_s` late."""
    now, count = 100.0, 0
    while now < 100.0 + seconds:
        now += pace.wait_s(to, now) + late_s
        pace.take(to, tokens, now)
        count += 1
    return count


def test_without_a_quota_nothing_waits() -> None:
    pace = Pace()
    pace.take(order(), 10**9, 5.0)
    assert pace.wait_s(order(), 5.0) == 0


@pytest.mark.parametrize("late_s", [0.0, 0.002, 0.04])
@pytest.mark.parametrize(
    ("rates", "tokens", "per_s"),
    [
        ({"requests_per_s": 20.0}, 5000, 20),
        ({"tokens_per_s": 1e5}, 5000, 20),
        ({"requests_per_s": 5.0, "tokens_per_s": 1e5}, 1000, 5),
    ],
)
def test_as_many_as_ordered_however_late_each_is(
    rates: dict[str, float], tokens: int, per_s: float, late_s: float
) -> None:
    assert sent(Pace(), order(**rates), tokens, late_s) == pytest.approx(10 * per_s, abs=4)


def test_what_was_not_asked_for_is_lost() -> None:
    pace = Pace()
    pace.take(order(requests_per_s=1.0), 1, 0.0)
    now = 1000.0
    pace.take(order(requests_per_s=1.0), 1, now)
    assert pace.wait_s(order(requests_per_s=1.0), now) == pytest.approx(1 - CATCH_UP_S)

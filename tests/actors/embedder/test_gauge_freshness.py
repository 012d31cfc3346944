"""How old an exporter's values are, and whether it is too slow to steer by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.gauges.reading.freshness import SLOW_S, Freshness
from tests.examples import examples

AS_INSTALLED_S = 30.0


def followed(
    period_s: float, seconds: int, *, step_s: float = 1.0, phase_s: float = 0.3
) -> tuple[Freshness, float]:
    """An exporter that is looked at for so many seconds, and the time of the last look."""
    fresh, now = Freshness(AS_INSTALLED_S), 1000.0
    for _ in range(round(seconds / step_s)):
        now += step_s
        fresh.look((now + phase_s) // period_s, now)
    return fresh, now


def test_nobody_knows_at_first_so_it_may_be_as_old_as_its_period() -> None:
    fresh, now = followed(30, 1)
    assert fresh.slow
    assert fresh.age_s(now) == AS_INSTALLED_S
    assert Freshness(2.0).age_s(5.0) == 2.0


def test_the_exporter_as_installed_is_slow_and_its_values_are_as_old_as_they_are() -> None:
    fresh, now = followed(30, 100)
    assert fresh.slow
    assert fresh.age_s(now) == pytest.approx((now + 0.3) % 30, abs=1)
    assert fresh.age_s(now + 5) == pytest.approx((now + 0.3) % 30 + 5, abs=1)


@pytest.mark.parametrize("period_s", [0.1, 1, 2, 4])
def test_one_that_refreshes_often_is_not(period_s: float) -> None:
    fresh, now = followed(period_s, 20)
    assert not fresh.slow
    assert fresh.age_s(now) <= period_s + 1


def test_values_that_happen_to_be_the_same_do_not_make_it_slow() -> None:
    fresh = Freshness(AS_INSTALLED_S)
    for now, value in enumerate([1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 6]):
        fresh.look(value, float(now))
    assert not fresh.slow
    assert fresh.age_s(11.0) == 0.5


def test_what_stays_for_longer_than_its_period_was_refreshed_and_is_the_same() -> None:
    fresh = Freshness(AS_INSTALLED_S)
    for now in range(100):
        fresh.look(7, float(now))
    assert fresh.age_s(99.0) == AS_INSTALLED_S
    assert fresh.age_s(104.0) == AS_INSTALLED_S + 5, "but since the last look nobody knows"


def test_one_that_is_even_slower_than_as_installed_is_found_out() -> None:
    fresh, now = followed(100, 350, step_s=5)
    assert fresh.age_s(now) == pytest.approx((now + 0.3) % 100, abs=5)


@examples(100)
@given(
    period_s=st.floats(0.5, 60),
    phase_s=st.floats(0, 60),
    steps_s=st.lists(st.floats(0.2, 3), min_size=200, max_size=400),
)
def test_the_age_is_never_wrong_by_more_than_half_a_look(
    period_s: float, phase_s: float, steps_s: list[float]
) -> None:
    fresh, now, refreshes, since_s = Freshness(60.0), 1000.0, 0, 0.0
    shown: float | None = None
    for step_s in steps_s:
        now += step_s
        before, shown = shown, (now + phase_s) // period_s
        fresh.look(shown, now)
        if before not in (None, shown):
            refreshes, since_s = refreshes + 1, step_s
        if refreshes:
            true_s = (now + phase_s) % period_s
            assert fresh.age_s(now) == pytest.approx(true_s, abs=since_s / 2 + 1e-6)
    if refreshes > 6 and period_s > SLOW_S + 3:
        assert fresh.slow
    if refreshes > 6 and period_s < SLOW_S - 3:
        assert not fresh.slow

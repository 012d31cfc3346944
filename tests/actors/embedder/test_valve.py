"""The valve: a higher limit is approached gently, a refusal stops that, a quota shuts it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.valve import RISE_S, THAW_S, Valve
from actors.messages import Order


def order(limit: int, version: int = 0) -> Order:
    return Order(limit, 32, 8192, version)


def sending(limit: int, at: float = 0.0) -> Valve:
    """A valve that rose to `limit` long before `at`."""
    valve = Valve(order(limit))
    valve.start(at - 10)
    assert valve.allowed(at) == limit
    return valve


def test_the_first_request_goes_alone_and_the_others_follow_within_the_rise() -> None:
    valve = Valve(order(16))
    assert valve.allowed(5.0) == valve.allowed(100.0) == 1
    valve.start(100.0)
    allowed = [valve.allowed(100.0 + i * RISE_S / 16) for i in range(17)]
    assert allowed == [1, *range(1, 17)]
    assert all(valve.wait_s(100.0 + i * RISE_S / 16) <= RISE_S / 16 for i in range(16))


def test_a_higher_limit_is_approached_from_the_one_that_was_reached() -> None:
    valve = sending(8)
    valve.obey(order(24, 1), 0.0)
    assert (valve.allowed(0.0), valve.allowed(RISE_S / 2), valve.allowed(RISE_S)) == (8, 16, 24)


def test_a_lower_limit_holds_at_once() -> None:
    valve = sending(24)
    valve.obey(order(8, 1), 0.0)
    assert valve.allowed(0.0) == 8
    valve.obey(order(0, 2), 0.0)
    assert valve.allowed(0.0) == 0


def test_the_same_order_again_changes_nothing() -> None:
    valve = sending(8)
    valve.obey(order(24, 1), 0.0)
    valve.obey(order(24, 1), RISE_S / 2)
    assert valve.allowed(RISE_S) == 24


def test_a_refusal_stops_the_rise_at_what_the_server_held() -> None:
    valve = sending(8)
    valve.obey(order(40, 1), 0.0)
    valve.refuse(RISE_S / 4, 12, None)
    assert valve.allowed(RISE_S) == 12
    valve.refuse(RISE_S, 11, None)
    assert valve.allowed(RISE_S) == 11
    valve.obey(order(30, 2), 2 * RISE_S)
    assert (valve.allowed(2 * RISE_S), valve.allowed(3 * RISE_S)) == (11, 30)


def test_without_a_new_order_it_is_tried_again_after_a_while() -> None:
    valve = sending(8)
    valve.refuse(0.0, 0, None)
    assert valve.allowed(0.99 * THAW_S) == 1
    assert valve.wait_s(0.5 * THAW_S) >= 0.5 * THAW_S
    assert (valve.allowed(THAW_S), valve.allowed(THAW_S + RISE_S)) == (1, 8)


def test_a_quota_shuts_it_for_as_long_as_the_server_asks_and_it_opens_gently() -> None:
    valve = sending(8)
    valve.refuse(0.0, 7, 1.5)
    assert (valve.shut_s(0.0), valve.shut_s(1.0), valve.shut_s(2.0)) == (1.5, 0.5, 0.0)
    assert [valve.allowed(1.5 + seconds) for seconds in (0, 0.9 * THAW_S, THAW_S, THAW_S + RISE_S)] == [1, 1, 1, 8]
    valve.refuse(10.0, 7, 1.5)
    valve.obey(order(6, 2), 10.2)
    assert valve.allowed(11.5) == 6


@given(st.lists(st.tuples(st.sampled_from(["order", "refuse", "start", "wait"]), st.integers(0, 50)), max_size=40))
def test_never_above_the_order_and_never_stuck(steps: list[tuple[str, int]]) -> None:
    valve, limit, now = Valve(order(4)), 4, 0.0
    for version, (step, number) in enumerate(steps, 1):
        now += 0.1
        if step == "order":
            limit = number
            valve.obey(order(limit, version), now)
        elif step == "refuse":
            valve.refuse(now, number, None)
        elif step == "start":
            valve.start(now)
        else:
            now += number / 10
        assert min(1, limit) <= valve.allowed(now) <= limit
    valve.start(now)
    later = now + THAW_S + 0.01
    valve.allowed(later)
    assert valve.allowed(later + RISE_S) == limit


def test_refusals_that_come_by_chance_stop_nothing_but_a_quota_does() -> None:
    valve = sending(8)
    valve.refuse(0.1, 3, None)
    assert valve.allowed(0.1) == 3
    valve.obey(replace(order(8), by_chance=True), 0.2)
    assert valve.allowed(0.2) == 8
    valve.refuse(0.3, 5, None)
    assert valve.allowed(0.3) == 8
    valve.refuse(0.4, 5, 2.0)
    assert valve.shut_s(0.4) == 2.0

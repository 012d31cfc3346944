"""The driver without Ray: shares that add up, counts that neither lose nor double, honest telemetry."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.driver.controller import SILENT_S, Controller
from actors.driver.tuning import Setting
from actors.messages import Completion, Failure, QueueSample
from tests.actors.driver.reporting import (
    OTHER,
    TICK_S,
    URL,
    Steps,
    counted,
    done,
    heard,
    limits,
    report,
    work,
)


@settings(deadline=None)
@given(
    st.integers(0, 600),
    st.lists(st.sets(st.sampled_from("abcdefghij"), min_size=1), min_size=1, max_size=6),
    st.integers(1, 512),
)
def test_shares_add_up_to_the_limit_while_embedders_come_and_go(
    limit: int, pools: list[set[str]], other_limit: int
) -> None:
    one, two = Steps(Setting(limit, 64, 4096)), Steps(Setting(other_limit, 32, 1024))
    controller = Controller({URL: one, OTHER: two})
    now = 1.0
    for pool in pools:
        now += SILENT_S + 0.1  # who does not report now is silent
        orders = heard(controller, sorted(pool), now)
        assert sum(limits(orders)) == limit
        assert sum(limits(orders, OTHER)) == other_limit
        assert max(limits(orders)) - min(limits(orders)) <= 1
        for each in orders.values():
            assert (each.by_endpoint[URL].batch_rows, each.by_endpoint[URL].batch_tokens) == (64, 4096)
            assert (each.by_endpoint[OTHER].batch_rows, each.by_endpoint[OTHER].batch_tokens) == (32, 1024)


def test_the_share_of_the_silent_goes_to_the_others_and_comes_back() -> None:
    controller = Controller({URL: Steps(Setting(9, 1, 1))})
    assert limits(heard(controller, ["a", "b"], 10.0)) == [5, 4]
    assert limits(heard(controller, ["a"], 10.0 + SILENT_S)) == [5]
    assert limits(heard(controller, ["a"], 10.0 + SILENT_S + 0.1)) == [9]
    assert limits(heard(controller, ["a", "b"], 20.0)) == [5, 4]


def test_the_pool_never_has_more_than_the_limit_also_while_others_come() -> None:
    """A newcomer waits for what the others have yet to give back, and so does everybody when the limit falls."""
    policy = Steps(Setting(8, 1, 1))
    controller = Controller({URL: policy})

    def told(name: str, inflight: int, now: float) -> int:
        return controller.report(report(name, counted(inflight=inflight)), now).by_endpoint[URL].limit

    assert told("a", 0, 1.0) == 8
    assert told("b", 0, 1.1) == 0, "a may have begun eight"
    assert told("a", 8, 1.2) == 4
    assert told("b", 0, 1.2) == 0, "they are under way"
    assert told("a", 5, 1.3) == 4
    assert told("b", 0, 1.3) == 3
    assert told("a", 4, 1.4) == 4
    assert told("b", 3, 1.4) == 4
    policy.setting = Setting(6, 1, 1)
    controller.tick(1.5)
    controller.tick(1.6)
    assert (told("a", 4, 1.7), told("c", 0, 1.7)) == (3, 0)
    assert (told("b", 4, 1.8), told("a", 2, 1.8), told("b", 2, 1.9), told("c", 0, 1.9)) == (2, 2, 2, 2)


def test_a_restarted_driver_raises_nobodys_limit_before_it_has_heard_of_all() -> None:
    controller = Controller({URL: Steps(Setting(8, 1, 1))})

    def told(name: str, now: float) -> int:
        known = report(name, counted(limit=4, inflight=4), uptime_s=50 + now)
        return controller.report(known, now).by_endpoint[URL].limit

    assert [told("a", 1.0), told("b", 1.2), told("a", 1.3), told("b", 1.9)] == [4] * 4
    assert told("a", 2.1) == 4
    assert told("a", 1.2 + 2 * SILENT_S) == 8, "b is gone"


def test_a_large_pool_is_asked_to_report_less_often() -> None:
    controller = Controller({URL: Steps()})
    orders = [controller.report(report(f"{i}"), 1.0) for i in range(2000)]
    assert orders[0].report_s == 0.25
    assert orders[-1].report_s == pytest.approx(2.0)
    assert orders[-1].report_s < SILENT_S / 2


def test_a_new_decision_reaches_everybody_with_the_next_report() -> None:
    policy = Steps(Setting(4, 10, 100))
    controller = Controller({URL: policy})
    heard(controller, ["a", "b"], 1.0)
    controller.tick(1.0)
    policy.setting = Setting(7, 20, 200)
    heard(controller, ["a", "b"], 1.5)
    controller.tick(1.5)
    orders = heard(controller, ["a", "b"], 1.6)
    assert sorted(limits(orders)) == [3, 4]
    assert orders["a"].by_endpoint[URL].batch_rows == 20


def test_counters_are_added_over_embedders_and_endpoints() -> None:
    controller = Controller({URL: Steps(), OTHER: Steps()})
    full = counted(
        URL,
        inflight=2,
        requests=5,
        answers=4,
        retries=1,
        rows=40,
        unique_texts=30,
        tokens=400,
        errors={"backend": 1},
    )
    controller.report(report("a", full, counted(OTHER, rows=7)), 1.0)
    controller.report(report("b", counted(URL, rows=2, errors={"backend": 2, "overloaded": 3})), 1.0)
    controller.tick(1.0)
    one, two = controller.status().endpoints
    assert (one.requests, one.retries, one.rows, one.unique_texts, one.tokens) == (5, 1, 42, 30, 400)
    assert one.errors == {"backend": 3, "overloaded": 3}
    assert (one.inflight, one.limit, one.batch_rows, one.batch_tokens) == (2, 8, 128, 8192)
    assert (two.endpoint, two.rows, two.errors) == (OTHER, 7, {})


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 50), st.booleans(), st.booleans()), max_size=30),
)
def test_nothing_is_lost_or_counted_twice_whatever_reports_are_lost_or_said_again(
    steps: list[tuple[str, int, bool, bool]],
) -> None:
    controller = Controller({URL: Steps()})
    done = {"a": 0, "b": 0}
    for step, (name, more, lost, again) in enumerate(steps):
        done[name] += more
        for _ in range((not lost) * (1 + again)):
            controller.report(report(name, work(done[name])), 1.0 + step / 10)
    for name in "ab":
        controller.report(report(name, work(done[name])), 9.0)
    (status,) = controller.status().endpoints
    assert (status.requests, status.rows, status.tokens) == tuple(n * sum(done.values()) for n in (1, 10, 100))


def test_a_restarted_embedder_counts_from_nothing_again() -> None:
    controller = Controller({URL: Steps()})
    controller.report(report("a", work(10), cpu_s=3.0), 1.0)
    controller.report(report("a", work(2), incarnation="2", cpu_s=1.0), 2.0)
    controller.report(report("a", work(5), incarnation="2", cpu_s=1.5), 3.0)
    controller.tick(3.0)
    status = controller.status()
    assert (status.endpoints[0].rows, status.cpu_s, status.embedders) == (150, 4.5, 1)


def test_a_restarted_driver_takes_an_hours_work_for_no_ticks() -> None:
    policy = Steps()
    controller = Controller({URL: policy})  # a new process, which knows nobody
    controller.report(report("a", replace(work(100_000), errors={"overloaded": 50})), 1.0)
    controller.tick(1.0)
    controller.report(report("a", replace(work(100_005), completions=done(5))), 1.5)
    (line,) = controller.tick(1.5)
    assert (policy.seen[0].failures, len(policy.seen[0].completions)) == ((), 5)
    assert (line["errors"], line["rows_per_s"]) == ({}, 100.0)
    assert controller.status().endpoints[0].rows == 1_000_050


def test_each_tick_observes_what_came_since_the_last() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    assert controller.tick(0.25) == []  # nobody there
    for name in "ab":
        controller.report(report(name, counted()), 0.5)
    controller.tick(0.5)
    policy.seen.clear()
    failed = (Failure(0.0, "backend", 8, 80, 96, None, None),)
    controller.report(report("a", counted(inflight=3, completions=done(2), failures=failed)), 1.5)
    controller.report(report("b", counted(inflight=2, completions=done(1))), 1.5)
    controller.tick(1.5)
    controller.report(report("a", counted(inflight=2)), 2.0)
    controller.report(report("b", counted(inflight=2)), 2.0)
    controller.tick(2.0)
    first, second = policy.seen
    assert (first.seconds, first.inflight, len(first.completions), len(first.failures)) == (1.0, 5, 3, 1)
    assert (second.seconds, second.inflight, second.completions, second.failures) == (0.5, 4, (), ())


def test_events_of_all_embedders_are_on_the_drivers_clock() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    controller.report(report("a"), 99.0)
    controller.tick(99.0)
    controller.report(report("a", counted(completions=done(1, at=7.0)), sent_at=8.0), 100.0)
    controller.report(report("b", counted(completions=done(1, at=500.5)), sent_at=501.0), 100.25)
    controller.tick(100.5)
    (seen,) = policy.seen
    assert [event.at for event in seen.completions] == [99.0, 99.75]
    assert (seen.now, seen.complete_to) == (100.5, 100.0)


def test_the_policy_is_told_since_when_everybody_follows_its_last_decision() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    for name in "ab":
        version = controller.report(report(name, counted()), 1.0).by_endpoint[URL].version
    controller.tick(1.0)
    controller.report(report("a", counted(order=version, obeyed_at=3.0), sent_at=4.0), 2.0)
    controller.report(report("b", counted()), 2.0)  # not yet
    controller.tick(2.0)
    controller.report(report("b", counted(order=version, obeyed_at=2.5), sent_at=2.6), 3.0)
    controller.tick(3.0)
    assert [seen.obeyed_since for seen in policy.seen] == [None, pytest.approx(2.9)]
    policy.setting = Setting(9, 128, 8192)
    controller.tick(3.5)
    assert controller.report(report("a"), 3.6).by_endpoint[URL].version == version + 1
    controller.tick(4.0)
    assert policy.seen[-1].obeyed_since is None


def test_one_embedder_alone_is_sent_with_the_canary_and_the_quota_is_shared() -> None:
    policy = Steps(Setting(8, 128, 8192, canary=3, canary_tokens=16384, requests_per_s=10.0, tokens_per_s=1e6))
    controller = Controller({URL: policy})
    orders = [orders.by_endpoint[URL] for orders in heard(controller, "abc", 1.0).values()]
    assert [order.canary_tokens for order in orders] == [16384, None, None]
    assert sum(order.requests_per_s or 0 for order in orders) == pytest.approx(10)
    assert sum(order.tokens_per_s or 0 for order in orders) == pytest.approx(1e6)


def test_nobody_there_is_not_observed() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    for now in (1.0, 2.0):
        controller.report(report("a"), now)
        controller.tick(now)
    assert len(policy.seen) == 1
    assert controller.tick(2.1 + SILENT_S) == []
    assert len(policy.seen) == 1
    assert controller.status().embedders == 0


@pytest.mark.parametrize(("idle", "starved"), [(0.0, False), (0.15, False), (0.3, True), (1.0, True)])
def test_starved_is_more_than_a_fifth_of_the_time(idle: float, starved: bool) -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    for tick in range(1, 5):
        for name in "ab":
            controller.report(report(name, starved_s=idle * tick), tick)
        controller.tick(tick)
    assert [seen.starved for seen in policy.seen[-2:]] == [starved, starved]


def test_a_telemetry_line_and_the_status_say_what_holds_the_job_back() -> None:
    controller = Controller({URL: Steps()})
    for step in range(25):
        spent = float(step)
        for name in "ab":
            told = {"starved_s": spent / 2, "cpu_s": 7.0 + spent, "uptime_s": spent, "idle_cores": 4.0}
            controller.report(report(name, window_rows=30, open_rows=5, **told), 10.0 + spent)
        lines = controller.tick(10.0 + spent)
        assert all(line["bound_by"] == ("input" if spent >= 10 else None) for line in lines)
    status = controller.status()
    assert status.recently
    assert status.recently.bound_by == status.verdict.bound_by == "input"
    assert "50%" in status.verdict.told
    assert lines[0]["advice"] == status.recently.advice
    assert (lines[0]["window_rows"], lines[0]["open_rows"]) == (60, 10)
    assert (status.cpu_s, status.window_rows, status.embedders) == (62.0, 60, 2)


def test_rates_follow_what_is_delivered() -> None:
    controller = Controller({URL: Steps()})
    for tick in range(1, 60):
        now = TICK_S * tick
        controller.report(report("a", replace(work(tick), completions=done(1))), now)
        (line,) = controller.tick(now) or [{}]
    (status,) = controller.status().endpoints
    assert (line["rows_per_s"], line["tokens_per_s"]) == (20.0, 200.0)
    assert status.rows_per_s == pytest.approx(20, rel=0.01)
    assert status.tokens_per_s == pytest.approx(200, rel=0.01)


def test_a_telemetry_line_has_what_the_interface_promises() -> None:
    controller = Controller({URL: Steps(), OTHER: Steps(Setting(3, 5, 7))})
    controller.report(report("a"), 10.0)
    controller.tick(10.0)
    answers = tuple(Completion(0.0, i / 1000, 1, 10, 10) for i in range(1, 101))
    refusals = (Failure(0.0, "overloaded", 1, 10, 10, None, None),)
    queue = QueueSample(40, 3, "vllm", 0.5)
    endpoint = counted(URL, inflight=2, completions=answers, failures=refusals, queue=queue)
    controller.report(report("a", endpoint, window_rows=70, open_rows=3), 10.5)
    lines = controller.tick(10.5)
    assert [line["endpoint"] for line in lines] == [URL, OTHER]
    assert lines[0] == {
        "t": 0.5,
        "endpoint": URL,
        "limit": 8,
        "inflight": 2,
        "batch_rows": 128,
        "batch_tokens": 8192,
        "rows_per_s": 200.0,
        "tokens_per_s": 2000.0,
        "gpu_util": None,
        "gpu_source": None,
        "gpu_age_s": None,
        "queue": 40,
        "queue_running": 3,
        "window_rows": 70,
        "open_rows": 3,
        "p50_ms": 50.5,
        "p99_ms": 99.0,
        "truncated": 0,
        "errors": {"overloaded": 1},
        "decision": "step 1",
        "bound_by": None,
        "advice": None,
    }
    assert (lines[1]["limit"], lines[1]["p50_ms"], lines[1]["errors"]) == (3, None, {})
    assert msgspec.json.decode(msgspec.json.encode(lines)) == lines


def test_one_that_is_leaving_gives_its_share_to_the_others_at_once() -> None:
    controller = Controller({URL: Steps(Setting(9, 1, 1))})
    assert limits(heard(controller, ["a", "b"], 10.0)) == [5, 4]
    assert controller.report(report("b", work(3), leaving=True), 10.1).by_endpoint == {}
    assert limits(heard(controller, ["a"], 10.2)) == [9]
    for now in (10.3, 10.4):
        controller.tick(now)
    status = controller.status()
    assert (status.embedders, status.endpoints[0].rows) == (1, 30)
    assert status.wanted == {"n": 1}


def test_status_before_anything_was_heard() -> None:
    status = Controller({URL: Steps()}).status()
    assert (status.embedders, status.window_rows, status.recently) == (0, 0, None)
    assert "too soon" in status.verdict.told
    assert (status.endpoints[0].limit, status.endpoints[0].decision) == (8, "start")

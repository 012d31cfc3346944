"""What the pool's time went into: whatever embedders come and go, and whichever stretch is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.driver.load import RECENT_S, Account, EndpointSums
from actors.messages import GpuSample, Report

URL = "http://one"
SUMS = EndpointSums(limit=8, batch_rows=64, paced_s=0.0, requests=0, errors={}, moves=1)


def report(uptime_s: float, starved: float = 0.0, writing: float = 0.0, busy: float = 0.0) -> Report:
    """What an embedder says that spent these shares of its time so."""
    spent = {"starved_s": starved * uptime_s, "write_wait_s": writing * uptime_s, "loop_s": busy * uptime_s}
    return Report("a", "1", "n", (), window_rows=0, cpu_s=0.0, uptime_s=uptime_s, **spent)


def tick(
    account: Account,
    seconds: float = 1.0,
    sums: EndpointSums = SUMS,
    gpu: float | None = None,
    idle: tuple[float, ...] = (1.0,),
    steady: bool = False,
) -> None:
    sample = GpuSample(gpu, "nvml", 0.1) if gpu is not None else None
    account.tick(seconds, idle, {URL: sample}, {URL: sums}, steady=steady)


def test_shares_are_of_the_time_of_all_embedders() -> None:
    account = Account()
    account.report(None, report(0.0))
    account.report(report(0.0), report(10.0, starved=0.4, writing=0.2, busy=0.9))  # one
    account.report(None, report(10.0))  # another, which was there before the driver
    tick(account, 10.0)
    load = account.whole
    assert (load.seconds, load.starved, load.writing, load.busy) == (10.0, 0.2, 0.1, pytest.approx(0.45))


def test_one_that_has_died_counts_for_as_long_as_it_lived() -> None:
    account = Account()
    account.report(None, report(30.0, busy=1.0))
    account.report(None, report(10.0, busy=0.0))  # its successor begins at 0
    tick(account, 40.0)
    assert account.whole.busy == pytest.approx(0.75)


def test_recently_is_of_the_last_seconds_only() -> None:
    account = Account()
    before = report(0.0)
    starved_s = 0.0
    for second in range(1, 61):
        starved_s += float(second > 45)
        now = replace(report(float(second)), starved_s=starved_s)
        account.report(before, now)
        before = now
        tick(account, sums=replace(SUMS, requests=second, errors={"overloaded": max(0, second - 50)}))
        assert (account.recent is None) is (second < RECENT_S)
    load = account.recent
    assert load
    assert (load.seconds, load.starved) == (RECENT_S, 1.0)
    assert (load.endpoints[0].requests, load.endpoints[0].errors) == (10, {"overloaded": 10})
    assert account.whole.starved == 0.25


def test_what_is_held_does_not_grow_with_the_job() -> None:
    account = Account()
    for _ in range(2000):
        tick(account, 0.25)
    assert len(account._before) <= RECENT_S + 2


def test_the_whole_is_the_steady_state_where_there_is_one() -> None:
    account = Account()
    for second in range(20):
        tick(account, gpu=0.2 if second < 10 else 0.98, steady=second >= 9)
    (endpoint,) = account.whole.endpoints
    assert (account.whole.seconds, endpoint.gpu, endpoint.gpu_source) == (10.0, pytest.approx(0.98), "nvml")


def test_a_short_steady_state_tells_less_than_all_there_is() -> None:
    account = Account()
    for second in range(12):
        tick(account, gpu=0.5, steady=second >= 9)
    assert account.whole.seconds == 12.0


def test_a_gpu_counts_while_it_is_seen() -> None:
    account = Account()
    for gpu in (0.4, None, None, 0.6):
        tick(account, gpu=gpu)
    assert account.whole.endpoints[0].gpu == pytest.approx(0.5)
    account = Account()
    tick(account)
    assert (account.whole.endpoints[0].gpu, account.whole.endpoints[0].gpu_source) == (None, None)


def test_idle_cores_are_those_of_the_busiest_node() -> None:
    account = Account()
    tick(account, idle=(3.0, 0.5))
    tick(account, idle=())
    assert account.whole.idle_cores == 0.25


def test_an_endpoint_as_it_stands_and_what_changed() -> None:
    account = Account()
    tick(account, sums=replace(SUMS, moves=1))
    tick(account, sums=replace(SUMS, limit=16, batch_rows=128, paced_s=1.0, moves=4))
    (endpoint,) = account.whole.endpoints
    assert (endpoint.limit, endpoint.batch_rows, endpoint.paced) == (16, 128, 0.5)


def test_nothing_was_seen() -> None:
    assert (Account().recent, Account().whole.seconds, Account().whole.endpoints) == (None, 0.0, ())

"""Each state's entry and exit, as sequences of observations."""

from __future__ import annotations

import pytest

from actors.ceiling import AGAIN_S, SOON_S
from actors.driver.tuning.base import Bounds, Setting
from actors.driver.tuning.knee import Knee
from actors.driver.tuning.room import ENOUGH_S, START
from tests.actors.driver.tuning.ground import Ground, failure


def flat(setting: Setting) -> float:
    return 100_000.0


def grows_with_size(setting: Setting) -> float:
    """A fixed cost of as much as 20k tokens."""
    return 400_000 * setting.batch_tokens / (setting.batch_tokens + 20_000)


def grows_with_limit(setting: Setting) -> float:
    """Far away: 64 in flight fill it."""
    return 10_000.0 * min(64, setting.limit)


def started(ground: Ground) -> Ground:
    ground.until("first answer")
    return ground


def test_nothing_grows_before_the_first_answer() -> None:
    ground = Ground(Knee(Bounds()), flat, answers=False)
    assert ground.run(30) == ground.policy.start()
    assert ground.setting.limit == 1
    ground.failures = [failure(ground.now, "overloaded"), failure(ground.now, "overloaded", retry_after_s=5.0)]
    assert ground.tick().setting.limit == 1
    ground.answers = True
    assert ground.run(0.5).limit == START.limit


def test_first_contact_learns_the_rows_that_a_413_names() -> None:
    ground = Ground(Knee(Bounds()), flat, answers=False)
    ground.failures = [failure(0.1, "too_many_inputs", most_rows=32)]
    assert ground.tick().setting.batch_rows == 32
    ground.answers = True
    assert ground.run(20).batch_rows == 32


def test_a_413_without_a_name_halves_the_rows() -> None:
    ground = started(Ground(Knee(Bounds()), flat))
    ground.failures = [failure(ground.now, "too_many_inputs", rows=90)]
    assert ground.tick().setting.batch_rows == 45


def test_a_limit_on_rows_that_was_none_is_found_out() -> None:
    ground = started(Ground(Knee(Bounds(server_rows=1024)), flat))
    ground.failures = [failure(ground.now, "too_many_inputs", most_rows=1)]
    assert ground.tick().setting.batch_rows == 1
    assert ground.run(AGAIN_S - 1).batch_rows == 1
    assert ground.run(12 * SOON_S + 2).batch_rows >= 100  # as many as any request has


def test_a_first_request_that_is_refused_alone_gets_fewer_texts() -> None:
    """TEI refuses for ever what has more texts than it has permits."""
    ground = Ground(Knee(Bounds()), flat, answers=False)
    rows = []
    for refused in (576, 576, 36, 36):  # one refusal may come by chance
        ground.failures = [failure(ground.now, "overloaded", rows=refused, status=429)]
        rows.append(ground.tick().setting.batch_rows)
    assert rows == [2048, 36, 36, 2]
    ground.answers = True
    assert started(ground).run(60).batch_rows > 2  # it was only busy


def test_a_server_that_is_starting_is_waited_for() -> None:
    ground = Ground(Knee(Bounds()), flat, answers=False)
    ground.failures = [failure(ground.now, "overloaded", rows=576, status=503)]
    assert ground.tick().setting.batch_rows == 2048


def test_first_contact_out_of_memory_makes_requests_smaller() -> None:
    ground = Ground(Knee(Bounds()), flat, answers=False)
    ground.failures = [failure(0.1, "backend", size=8192)]
    assert ground.tick().setting.batch_tokens == 4096


@pytest.mark.parametrize("busy", [1.0, None])
def test_a_busy_gpu_with_low_throughput_still_grows(busy: float | None) -> None:
    ground = Ground(Knee(Bounds()), grows_with_size, busy=busy)
    assert ground.run(30).batch_tokens >= 65_536


def test_an_idle_gpu_asks_for_more_in_flight() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit, busy=0.2)
    assert ground.until("trying").setting.limit > START.limit
    assert ground.run(25).limit >= 60


def test_a_plateau_at_low_utilisation_is_a_plateau() -> None:
    ground = Ground(Knee(Bounds()), flat, busy=0.4)
    assert ground.until("holding").setting.limit <= START.limit
    assert ground.run(30).batch_tokens <= 2 * ENOUGH_S * flat(ground.setting)  # ties go to larger requests


def test_a_stale_gauge_says_nothing() -> None:
    idle, busy = (Ground(Knee(Bounds()), flat, busy=share, gauge_age_s=15) for share in (0.1, 0.99))
    assert idle.run(30) == busy.run(30)
    assert [each.reason for each in idle.decisions] == [each.reason for each in busy.decisions]


def test_where_it_may_be_a_hosted_api_more_are_in_flight_in_smaller_steps() -> None:
    def limits(ground: Ground) -> set[int]:
        return {each.setting.limit for each in ground.decisions if each.setting.limit > 8}

    hosted, gauged, told = (
        Ground(Knee(bounds), lambda setting: 50_000.0 * setting.limit, busy=busy)
        for bounds, busy in ((Bounds(), None), (Bounds(), 0.5), (Bounds(server_requests_inflight=512), None))
    )
    for each in (hosted, gauged, told):
        each.run(5)
    assert min(limits(hosted)) == 12
    assert min(limits(gauged) | limits(told)) == 16


def test_trim_keeps_as_few_in_flight_as_hold_the_speed() -> None:
    ground = Ground(Knee(Bounds()), lambda setting: 50_000.0 * min(3, setting.limit))
    ground.until("holding")
    assert 3 <= ground.setting.limit <= 5


def test_trim_stops_when_the_gpu_is_less_busy() -> None:
    ground = Ground(Knee(Bounds()), flat, busy=1.0)
    ground.until("trying 2 in flight")
    ground.busy = 0.9
    assert ground.until("too few").setting.limit > 2


def test_a_starved_source_ends_the_trial_and_teaches_nothing() -> None:
    ground = started(Ground(Knee(Bounds()), grows_with_size))
    before = (START.limit, START.tokens)
    tried = ground.until("trying").setting
    assert (tried.limit, tried.batch_tokens) != before
    ground.starved = True
    assert (ground.tick().setting.limit, ground.setting.batch_tokens) == before
    assert (ground.run(10).limit, ground.setting.batch_tokens) == before
    ground.starved = False
    assert ground.run(20).batch_tokens > START.tokens


def test_hold_finds_its_way_when_the_ground_moves() -> None:
    speed = [1.0]
    ground = Ground(Knee(Bounds()), lambda setting: speed[0] * 10_000 * min(8 * speed[0], setting.limit))
    ground.until("holding")
    speed[0] = 4.0
    ground.until("the ground moved", 15)
    assert ground.run(20).limit >= 30


def test_hold_adopts_a_neighbour_that_became_better() -> None:
    far = [False]

    def rate(setting: Setting) -> float:
        return 100_000 * (1 + (0.1 if far[0] and setting.batch_tokens > START.tokens else 0.0))

    ground = Ground(Knee(Bounds()), rate)
    ground.until("holding")
    far[0] = True
    ground.until("adopted", 120)
    assert ground.setting.batch_tokens > START.tokens


def test_larger_requests_follow_a_canary() -> None:
    ground = started(Ground(Knee(Bounds()), grows_with_size))
    assert ground.setting.canary == 1
    assert (ground.setting.canary_tokens, ground.setting.batch_tokens) == (2 * START.tokens, START.tokens)


def test_out_of_memory_on_a_canary_costs_nothing_and_is_not_repeated() -> None:
    ground = Ground(Knee(Bounds()), grows_with_size, oom=50_000)
    ground.run(60)
    canaries = {each.setting.canary_tokens for each in ground.decisions if each.setting.canary_tokens}
    assert sum(size > 50_000 for size in canaries) <= 2
    assert 32_768 <= ground.setting.batch_tokens <= 50_000
    assert max(each.setting.batch_tokens for each in ground.decisions) <= 50_000


def test_out_of_memory_at_a_size_that_is_new_goes_back_below_it() -> None:
    ground = started(Ground(Knee(Bounds()), grows_with_size))
    ground.run(30)
    size = int(1.2 * max(ground.setting.batch_tokens, ground.setting.canary_tokens or 0))
    ground.failures = [failure(ground.now, "backend", size=size)]
    ground.tick()
    assert ground.run(60).batch_tokens < size


def test_failures_of_sizes_that_worked_cut_once_a_second() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit)
    ground.until("holding")
    limit, tokens = ground.setting.limit, ground.setting.batch_tokens
    most = int(0.7 * limit)
    for _ in range(4):
        ground.failures = [failure(ground.now, "backend", size=100)] * 80
        ground.tick()
        assert ground.setting.limit * ground.setting.batch_tokens <= most * tokens
    settings = [ground.tick().setting for _ in range(120)]
    assert 0.6 * most * tokens < max(each.limit * each.batch_tokens for each in settings) <= most * tokens
    settings = [ground.tick().setting for _ in range(400)]
    assert max(each.limit * each.batch_tokens for each in settings) > most * tokens


def test_requests_that_fail_together_bound_what_waits_and_not_their_size() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit)
    ground.until("holding")
    limit, tokens = ground.setting.limit, ground.setting.batch_tokens
    ground.answers = False  # while the batch fails
    ground.run(0.5)
    ground.failures = [failure(ground.now, "backend", size=100)] * 4
    ground.tick()
    ground.answers = True
    assert ground.setting.limit == int(0.3 * limit)
    settings = [ground.tick().setting for _ in range(200)]
    assert max((each.limit - 1) * each.batch_tokens for each in settings) <= 0.5 * (limit - 1) * tokens
    assert min(each.batch_tokens for each in settings) >= int(0.7 * tokens)  # a probe's


def test_a_canary_that_fails_with_others_is_to_blame_alone() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit, oom=20_000)
    ground.until("out of memory")
    limit, tokens = ground.setting.limit, ground.setting.batch_tokens
    ground.failures = [failure(ground.now, "backend", size=100)] * 4
    ground.failures.append(failure(ground.now, "backend", size=40_000, canary=9))
    ground.answers = False
    ground.tick()
    assert (ground.setting.limit, ground.setting.batch_tokens) == (limit, tokens)


def test_a_backend_that_fails_however_few_are_in_flight_does_not_fail_for_load() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit)
    ground.until("holding")
    limit, least = ground.setting.limit, ground.setting.limit
    while "not for load" not in ground.decisions[-1].reason:
        ground.failures = [failure(ground.now, "backend", size=100)] * 80
        ground.tick()
        least = min(least, ground.setting.limit)
        assert ground.now < 60
    assert least <= 2
    assert ground.setting.limit == limit


def test_few_failures_among_many_answers_are_not_for_load() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit)
    ground.until("holding")
    limit = ground.setting.limit
    for _ in range(20):
        ground.failures = [failure(ground.now, "backend", size=100)]
        ground.tick()
        assert ground.setting.limit >= 0.75 * limit


def test_a_server_that_is_away_is_not_overloaded() -> None:
    ground = Ground(Knee(Bounds()), flat)
    limit = ground.until("holding").setting.limit
    ground.answers = False
    ground.run(6)
    for _ in range(40):
        ground.failures = [failure(ground.now, "transport")]
        ground.tick()
    assert ground.setting.limit == limit


def test_refusals_in_a_trial_go_back_to_what_worked() -> None:
    ground = Ground(Knee(Bounds()), grows_with_limit, busy=0.2)
    ground.until("trying")
    assert ground.setting.limit > START.limit
    ground.failures = [failure(ground.now, "overloaded")]
    assert ground.tick().setting.limit == START.limit


def test_it_goes_on_from_the_last_setting() -> None:
    last = Setting(20, 64, 30_000)
    ground = Ground(Knee(Bounds(), last), flat)
    assert (ground.setting.limit, ground.setting.batch_tokens) == (20, 30_000)
    ground.until("trying")


@pytest.mark.parametrize("rate", [flat, grows_with_size, grows_with_limit])
@pytest.mark.parametrize("busy", [None, 0.3, 1.0])
def test_pinned_knobs_never_move(rate: object, busy: float | None) -> None:
    limit = Ground(Knee(Bounds(limit=5)), rate, busy=busy)  # type: ignore[arg-type]
    limit.run(60)
    assert {each.setting.limit for each in limit.decisions[4:]} == {5}
    rows = Ground(Knee(Bounds(batch_rows=48)), rate, busy=busy)  # type: ignore[arg-type]
    rows.run(60)
    assert {(each.setting.batch_rows, each.setting.batch_tokens) for each in rows.decisions} == {(48, 1 << 17)}
    assert all(each.setting.canary_tokens is None for each in rows.decisions)

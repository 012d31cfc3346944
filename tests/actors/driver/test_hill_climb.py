"""The hill-climb on observation sequences, and in simulated time against servers of closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.driver.tuning import DEFAULT_POLICY, POLICIES, Bounds, Decision, Observation, Setting
from actors.driver.tuning.hill_climb import (
    HOLD_WINDOWS,
    MAX_BATCH_TOKENS,
    MAX_LIMIT,
    WINDOW_ANSWERS,
    WINDOW_ROUNDS,
    WINDOW_S,
    WORTH,
    HillClimb,
)
from actors.messages import GpuSample

TICK_S = 0.5
TEXT_TOKENS = 32
Server = Callable[[Setting], float]  # tokens/s at a setting


def tokens_of(setting: Setting) -> int:
    """Of one full request."""
    return min(setting.batch_rows * TEXT_TOKENS, setting.batch_tokens)


def request_is_the_batch(setting: Setting) -> float:
    """One GPU, one request at a time: 20 ms each and 100k tokens/s, 30 ms away."""
    service = 0.02 + tokens_of(setting) / 100_000
    return tokens_of(setting) * min(1 / service, setting.limit / (service + 0.03))


def merges_requests(setting: Setting) -> float:
    """A GPU that merges whatever is in flight and takes 200k tokens/s once 100k tokens are there."""
    inflight = setting.limit * tokens_of(setting)
    return 200_000 * math.pow(min(1.0, inflight / 100_000), 0.7)


def one_text_at_a_time(setting: Setting) -> float:
    """What neither knob makes faster."""
    return 20_000.0


def worse_when_pushed(setting: Setting) -> float:
    """Slower by 3 % for each request above 8."""
    return 50_000 / (1 + 0.03 * max(0, setting.limit - 8))


SERVERS = [request_is_the_batch, merges_requests, one_text_at_a_time, worse_when_pushed]


def refuses_above_24(setting: Setting) -> float:
    """Each request takes 0.5 s, up to 24 at a time; see `refusals`."""
    return min(24, setting.limit) * tokens_of(setting) / 0.5


def refusals(server: Server, setting: Setting) -> dict[str, int]:
    return {"overloaded": setting.limit - 24} if server is refuses_above_24 and setting.limit > 24 else {}


def climb(policy: HillClimb, server: Server, seconds: float = 120.0) -> Setting:
    """The setting after so much simulated time."""
    setting, tokens = policy.start(), 0.0
    for _ in range(int(seconds / TICK_S)):
        tokens += server(setting) * TICK_S
        answers = int(tokens / tokens_of(setting))
        delivered = answers * tokens_of(setting)
        tokens -= delivered
        setting = policy.decide(seen(answers, delivered, TICK_S, errors=refusals(server, setting))).setting
    return setting


def seen(answers: int = 1000, tokens: int = 100_000, seconds: float = WINDOW_S, **fields: object) -> Observation:
    return Observation(seconds, answers, answers, tokens, inflight=8, **{"starved": False, **fields})  # type: ignore[arg-type]


def window(policy: HillClimb, rate: float) -> Decision:
    """What is decided when a whole window at this many tokens/s has been seen."""
    return policy.decide(seen(tokens=round(rate * WINDOW_S)))


OBSERVATIONS = st.builds(
    seen,
    answers=st.integers(0, 3000),
    tokens=st.integers(0, 10_000_000),
    seconds=st.floats(0.01, 10),
    starved=st.booleans(),
    gpu=st.none() | st.builds(GpuSample, st.floats(0, 1), st.just("nvml"), st.floats(0, 60)),
    errors=st.dictionaries(st.sampled_from(["overloaded", "backend", "transport"]), st.integers(1, 9)),
)


def test_it_is_the_default() -> None:
    assert isinstance(POLICIES[DEFAULT_POLICY](Bounds()), HillClimb)


@pytest.mark.parametrize(
    ("bounds", "start"),
    [
        (Bounds(), Setting(8, 128, 8192)),
        (Bounds(max_batch_rows=32), Setting(8, 32, 8192)),
        (Bounds(limit=3), Setting(3, 128, 8192)),
        (Bounds(batch_rows=500), Setting(8, 500, MAX_BATCH_TOKENS)),
        (Bounds(limit=1, batch_rows=1), Setting(1, 1, MAX_BATCH_TOKENS)),
    ],
)
def test_the_start(bounds: Bounds, start: Setting) -> None:
    assert HillClimb(bounds).start() == start


@settings(deadline=None)
@given(st.lists(OBSERVATIONS, max_size=60), st.sampled_from([None, 1, 7]), st.sampled_from([None, 1, 33]))
def test_whatever_is_seen_pinned_knobs_stay_and_the_others_keep_their_bounds(
    observations: list[Observation], limit: int | None, batch_rows: int | None
) -> None:
    policy = HillClimb(Bounds(limit=limit, batch_rows=batch_rows, max_batch_rows=300))
    for each in observations:
        decision = policy.decide(each)
        assert decision.reason
        assert decision.setting.limit == (limit or decision.setting.limit)
        assert decision.setting.batch_rows == (batch_rows or decision.setting.batch_rows)
        assert 1 <= decision.setting.limit <= MAX_LIMIT
        assert 1 <= decision.setting.batch_rows <= 300
        assert 1 <= decision.setting.batch_tokens <= MAX_BATCH_TOKENS


@pytest.mark.parametrize(
    ("seconds", "answers", "ticks"),
    [
        (TICK_S, 1000, WINDOW_S / TICK_S),  # the time
        (10.0, 4, max(WINDOW_ANSWERS, WINDOW_ROUNDS * 8) / 4),  # the answers
    ],
)
def test_nothing_moves_before_a_window_is_full(seconds: float, answers: int, ticks: float) -> None:
    policy = HillClimb(Bounds())
    for _ in range(int(ticks) - 1):
        decision = policy.decide(seen(answers, seconds=seconds))
        assert (decision.setting, decision.reason) == (policy.start(), "measuring")
    assert policy.decide(seen(answers, seconds=seconds)).setting != HillClimb(Bounds()).start()


def test_a_trial_is_kept_when_it_is_worth_it_and_else_undone() -> None:
    policy = HillClimb(Bounds())
    start = policy.start()
    larger = window(policy, 1000)
    assert larger.setting == replace(start, batch_rows=256, batch_tokens=16384)
    kept = window(policy, 1000 * WORTH + 1)
    assert "batch kept" in kept.reason
    assert kept.setting == replace(start, batch_rows=512, batch_tokens=32768)
    undone = window(policy, 1000 * WORTH * WORTH - 10)
    assert "batch reverted" in undone.reason
    assert undone.setting == larger.setting
    # the other knob is next, and the one that was undone is left alone
    assert window(policy, 1051).setting == replace(larger.setting, limit=16)
    assert window(policy, 2000).setting == replace(larger.setting, limit=32)


def test_a_plateau_is_tried_again_after_a_while() -> None:
    policy = HillClimb(Bounds())
    start = policy.start()
    tried = [window(policy, 1000) for _ in range(4)]
    assert [(each.setting.batch_rows, each.setting.limit) for each in tried] == [
        (256, 8),
        (128, 8),
        (128, 16),
        (128, 8),
    ]
    for _ in range(HOLD_WINDOWS):
        decision = window(policy, 1000)
        assert (decision.setting, "plateau" in decision.reason) == (start, True)
    assert window(policy, 1000).setting == tried[0].setting


def test_a_starved_time_measures_nothing() -> None:
    policy = HillClimb(Bounds())
    start = policy.start()
    for _ in range(10):
        assert policy.decide(seen(starved=True)).setting == start
        assert policy.decide(seen(seconds=WINDOW_S - 0.1)).setting == start
    assert policy.decide(seen(starved=True)).setting == start
    trial = window(policy, 1000).setting
    assert trial != start
    assert policy.decide(seen(tokens=1, starved=True)).setting == trial
    assert "kept" in window(policy, 2000).reason


def test_overload_takes_requests_out_of_flight_and_leaves_their_size() -> None:
    decision = HillClimb(Bounds()).decide(seen(errors={"overloaded": 3}))
    assert 1 <= decision.setting.limit < 8
    assert (decision.setting.batch_rows, decision.setting.batch_tokens) == (128, 8192)
    assert "overloaded" in decision.reason


def test_overload_again_and_again_leaves_one_request() -> None:
    policy = HillClimb(Bounds())
    for _ in range(50):
        decision = policy.decide(seen(errors={"overloaded": 1}))
    assert decision.setting.limit == 1


def test_a_burst_of_refusals_is_one_step_back() -> None:
    """What was in flight goes on being refused for some ticks after the limit was lowered."""
    policy = HillClimb(Bounds())
    limits = [policy.decide(seen(4, 4000, TICK_S, errors={"overloaded": 3})).setting.limit for _ in range(4)]
    assert len(set(limits)) == 1
    assert 4 <= limits[0] < 8


def test_a_larger_request_that_brings_overload_is_undone() -> None:
    policy = HillClimb(Bounds())
    assert window(policy, 1000).setting.batch_rows == 256
    assert policy.decide(seen(10, 10_000, TICK_S, errors={"overloaded": 8})).setting.batch_rows == 128


def test_a_trial_in_which_nothing_comes_back_ends() -> None:
    policy = HillClimb(Bounds())
    start = policy.start()
    assert window(policy, 1000).setting != start
    for _ in range(240):
        setting = policy.decide(seen(0, 0, TICK_S, errors={"backend": 1})).setting
    assert setting == start


def test_refusals_before_the_first_answer_are_of_a_server_that_loads() -> None:
    policy = HillClimb(Bounds())
    for _ in range(60):
        assert policy.decide(seen(0, 0, TICK_S, errors={"overloaded": 8})).setting.limit == 8


def test_a_server_that_restarts_in_mid_run_is_not_an_overloaded_one() -> None:
    policy = HillClimb(Bounds())
    before = window(policy, 1000).setting.limit
    for _ in range(60):  # 30 s of 503 while it loads its model
        setting = policy.decide(seen(0, 0, TICK_S, errors={"overloaded": 8})).setting
    assert setting.limit >= before // 2


@pytest.mark.parametrize("seconds", [60, 120, 240])
def test_a_cap_on_requests_is_gone_up_to(seconds: int) -> None:
    setting = climb(HillClimb(Bounds(batch_rows=64)), refuses_above_24, seconds)
    assert refuses_above_24(setting) >= 0.7 * refuses_above_24(replace(setting, limit=24))


def test_overload_with_a_pinned_limit_is_only_told() -> None:
    policy = HillClimb(Bounds(limit=16))
    assert policy.decide(seen(errors={"overloaded": 9})).setting == HillClimb(Bounds(limit=16)).start()


def test_after_overload_more_requests_are_not_tried_for_a_while() -> None:
    policy = HillClimb(Bounds())
    low = policy.decide(seen(errors={"overloaded": 1})).setting.limit
    early = [window(policy, 1000).setting.limit for _ in range(HOLD_WINDOWS)]
    assert set(early) == {low}
    assert max(window(policy, 1000).setting.limit for _ in range(8)) == 2 * low


@pytest.mark.parametrize("kind", ["backend", "transport", "bad_request", "wrong_answer", "too_large"])
def test_other_errors_are_no_overload(kind: str) -> None:
    assert window(HillClimb(Bounds()), 1000) == HillClimb(Bounds()).decide(
        seen(tokens=round(1000 * WINDOW_S), errors={kind: 5})
    )


@pytest.mark.parametrize("server", SERVERS)
def test_it_finds_nine_tenths_of_the_best_setting(server: Server) -> None:
    best = max(
        server(Setting(2**limit, 2**rows, min(MAX_BATCH_TOKENS, 64 * 2**rows)))
        for limit in range(10)
        for rows in range(12)
    )
    assert server(climb(HillClimb(Bounds()), server)) >= 0.9 * best


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("bounds", [Bounds(limit=4), Bounds(batch_rows=64), Bounds(max_batch_rows=64)])
def test_it_finds_nine_tenths_of_what_the_user_leaves_free(server: Server, bounds: Bounds) -> None:
    best = max(
        server(Setting(bounds.limit or 2**limit, rows, MAX_BATCH_TOKENS if bounds.batch_rows else 64 * rows))
        for limit in range(10)
        for rows in ([bounds.batch_rows] if bounds.batch_rows else [2**i for i in range(12)])
        if rows <= bounds.max_batch_rows
    )
    assert server(climb(HillClimb(bounds), server)) >= 0.9 * best


def test_it_follows_a_server_that_becomes_larger() -> None:
    policy = HillClimb(Bounds(batch_rows=64))
    climb(policy, merges_requests)

    def four_times(setting: Setting) -> float:
        return 4 * merges_requests(replace(setting, limit=max(1, setting.limit // 4)))

    assert four_times(climb(policy, four_times, 240)) >= 0.9 * 800_000

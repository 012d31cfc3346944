"""The simulated GPUs against closed forms, in simulated time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from tests.servers.gpu.batches import Job, Outcome
from tests.servers.gpu.meter import Meter
from tests.servers.gpu.oracle import (
    Setting,
    best,
    capacity,
    ceiling,
    lognormal,
    measure,
    requests_of,
    saturated,
)
from tests.servers.gpu.physics import Gpu, batch_seconds
from tests.servers.gpu.profiles import PROFILES, Profile, changed

EXACT = Profile(noise=0, jitter=0, fixed_s=0.01, per_token_s=1e-5, knee_tokens=1000)
LENGTHS = lognormal(20_000)


def run(gpu: Gpu, requests: Sequence[Sequence[int]], until: float = 1e9) -> list[tuple[float, Job]]:
    """Sends all at time 0; the answers with the times at which they came."""
    for lengths in requests:
        gpu.send(0.0, lengths)
    came = []
    while (event := gpu.next_event) is not None and event <= until:
        came += [(event, job) for job in gpu.advance(event)]
    return came


def ended(gpu: Gpu, requests: Sequence[Sequence[int]]) -> list[Outcome | None]:
    return [job.outcome for _, job in run(gpu, requests)]


def test_a_batch_below_the_knee_costs_no_less() -> None:
    assert batch_seconds(EXACT, 1) == batch_seconds(EXACT, 1000) == pytest.approx(0.02)
    assert batch_seconds(EXACT, 3000) == pytest.approx(0.04)
    assert batch_seconds(replace(EXACT, speed=0.5), 3000) == pytest.approx(0.08)


@pytest.mark.parametrize(("padded", "work"), [(True, 3 * 2000), (False, 3500)])
def test_padding_counts_only_where_kernels_pad(padded: bool, work: int) -> None:
    gpu = Gpu(replace(EXACT, padded=padded))
    [(when, job)] = run(gpu, [[500, 1000, 2000]])
    assert job.outcome is Outcome.OK
    assert when == pytest.approx(0.01 + 1e-5 * work)
    assert gpu.busy_s(when) == pytest.approx(when)


def test_one_request_is_one_batch_on_one_gpu_after_the_other() -> None:
    came = run(Gpu(EXACT), [[3000]] * 5)
    assert [when for when, _ in came] == pytest.approx([0.04 * i for i in range(1, 6)])
    came = run(Gpu(replace(EXACT, replicas=5)), [[3000]] * 5)
    assert [when for when, _ in came] == pytest.approx([0.04] * 5)


def test_host_work_keeps_the_gpu_idle() -> None:
    gpu = Gpu(replace(EXACT, host_share=0.25))
    came = run(gpu, [[3000]] * 10)
    assert came[-1][0] == pytest.approx(10 * 0.05)
    assert gpu.busy_s(0.5) == pytest.approx(0.4)


def test_distance_is_paid_once_and_not_by_the_gpu() -> None:
    came = run(Gpu(replace(EXACT, distance_s=0.1)), [[3000]] * 3)
    assert [when for when, _ in came] == pytest.approx([0.14, 0.18, 0.22])


def test_jitter_lengthens_by_its_mean() -> None:
    profile = replace(EXACT, distance_s=0.1, jitter=0.5, fixed_s=0, per_token_s=0, replicas=4000)
    came = run(Gpu(profile), [[1]] * 4000)
    assert sum(when for when, _ in came) / 4000 == pytest.approx(0.15, rel=0.03)


def test_noise_has_mean_one() -> None:
    came = run(Gpu(replace(EXACT, noise=0.25)), [[3000]] * 4000)
    assert came[-1][0] == pytest.approx(160, rel=0.02)


def test_cold_starts_with_the_first_request_and_leaves_the_gpu_idle() -> None:
    gpu = Gpu(replace(EXACT, cold_s=6))
    gpu.send(10.0, [3000])
    gpu.send(10.0, [3000])
    jobs = [gpu.advance(t) for t in (16.03, 16.05, 16.09)]
    assert [len(each) for each in jobs] == [0, 1, 1]
    assert gpu.busy_s(17.0) == pytest.approx(0.08)
    gpu.warm_anew()
    gpu.send(20.0, [3000])
    assert gpu.advance(26.03) == []


def test_thrash_slows_per_request_in_flight() -> None:
    profile = replace(EXACT, thrash_above=2, thrash_share=0.1)
    came = run(Gpu(profile), [[3000]] * 6)
    # the first begins before the others are there; then 5, 4, 3, 2, 1 are in flight
    assert came[-1][0] == pytest.approx(0.04 * (1 + 1.3 + 1.2 + 1.1 + 1 + 1))


def test_merging_by_tokens_fills_the_budget_across_requests() -> None:
    gpu = Gpu(replace(EXACT, merge="tokens", padded=False, batch_tokens=1000))
    # the first is taken alone, the second prefetched while it runs; the others find each other
    came = run(gpu, [[100] * 4] * 10)
    assert all(job.outcome is Outcome.OK for _, job in came)
    assert gpu.batches == 2 + 4  # 3200 tokens at 1000 a batch
    assert gpu.batched_tokens == 4000
    assert came[-1][0] == pytest.approx(6 * 0.02)


def test_merging_by_tokens_counts_padding_where_kernels_pad() -> None:
    gpu = Gpu(replace(EXACT, merge="tokens", padded=True, batch_tokens=1000))
    run(gpu, [[500], [500], [100] * 4, [600], [100]])
    # [500] [500] [100 x 4] and then 600 would pad them: [600] + [100] would be 1200
    assert gpu.batches == 5


def test_a_text_above_the_token_budget_goes_alone() -> None:
    gpu = Gpu(replace(EXACT, merge="tokens", padded=False, batch_tokens=100))
    assert ended(gpu, [[50, 5000, 50]]) == [Outcome.OK]
    assert gpu.batches == 3


def test_merging_by_items_sorts_a_window_by_length() -> None:
    profile = replace(EXACT, merge="items", batch_items=2, sort_batches=8, fixed_s=0, knee_tokens=0)
    mixed = Gpu(profile)
    run(mixed, [[1], [10, 1000, 10, 1000, 10, 1000, 10, 1000]])
    assert mixed.batches == 5
    assert mixed.batched_work == mixed.batched_tokens == 1 + 4 * 1010  # none is padded
    in_order = Gpu(replace(profile, sort_batches=1))
    run(in_order, [[1], [10, 1000, 10, 1000, 10, 1000, 10, 1000]])
    assert in_order.batched_work == 1 + 4 * 2000


def test_a_request_cap_counts_requests_and_a_text_cap_texts() -> None:
    big, small = [10] * 40, [10]
    assert ended(Gpu(replace(EXACT, request_cap=3)), [big] * 5).count(Outcome.OVERLOADED) == 2
    capped = replace(EXACT, text_cap=100)
    assert ended(Gpu(capped), [big] * 5).count(Outcome.OVERLOADED) == 3
    assert ended(Gpu(capped), [small] * 99).count(Outcome.OVERLOADED) == 0
    gpu = Gpu(capped)
    run(gpu, [big] * 5)
    assert (gpu.in_flight, gpu.texts, gpu.waiting) == (0, 0, 0)


def test_too_many_inputs() -> None:
    assert ended(Gpu(replace(EXACT, most_inputs=32)), [[1] * 33]) == [Outcome.TOO_MANY]


def test_memory_is_exceeded_by_padded_size_and_takes_all_merged_requests_along() -> None:
    small = replace(EXACT, oom_tokens=4000, oom_s=0.4)
    assert ended(Gpu(small), [[1000] * 4]) == [Outcome.OK]
    assert ended(Gpu(small), [[10] * 4 + [1001]]) == [Outcome.OOM]
    gpu = Gpu(replace(small, merge="tokens", batch_tokens=10_000))
    assert ended(gpu, [[10], [10], [500] * 4, [500] * 4, [500] * 2]) == [Outcome.OK] * 2 + [Outcome.OOM] * 3
    assert (gpu.in_flight, gpu.texts, gpu.most_work) == (0, 0, 10)


@pytest.mark.parametrize(
    ("quota", "share"), [({"requests_per_s": 10}, 10 * 3000), ({"tokens_per_s": 20_000}, 20_000)]
)
def test_a_quota_admits_its_rate(quota: dict[str, float], share: float) -> None:
    profile = changed(replace(EXACT, replicas=64), quota)
    gpu, passed = Gpu(profile), 0
    for tick in range(10_000):
        gpu.send(tick / 100, [3000])
        passed += sum(job.tokens for job in gpu.advance(tick / 100) if job.outcome is Outcome.OK)
    assert passed == pytest.approx(share * 102, rel=0.01)  # 100 s and the burst of 2 s


def test_who_leaves_frees_his_place_and_is_not_computed() -> None:
    gpu = Gpu(EXACT)
    jobs = [gpu.send(0.0, [3000]) for _ in range(3)]
    gpu.advance(0.01)
    gpu.cancel(0.01, jobs[1])
    assert gpu.in_flight == 2
    assert gpu.advance(0.0801) == [jobs[0], jobs[2]]
    assert (gpu.batches, gpu.in_flight, gpu.texts) == (2, 0, 0)


def test_a_change_holds_for_what_begins_after_it() -> None:
    gpu = Gpu(EXACT)
    gpu.send(0.0, [3000])
    gpu.send(0.0, [3000])
    gpu.advance(0.01)
    gpu.profile = replace(EXACT, speed=0.5, replicas=2)
    assert len(gpu.advance(0.041)) == 1
    assert len(gpu.advance(0.121)) == 1


def test_a_late_caller_loses_no_gpu_time() -> None:
    punctual, late = Gpu(EXACT), Gpu(EXACT)
    run(punctual, [[3000]] * 10)
    for _ in range(10):
        late.send(0.0, [3000])
    assert len(late.advance(5.0)) == 10
    assert late.busy_s(5.0) == punctual.busy_s(5.0) == pytest.approx(0.4)


def test_the_meter_is_a_share_of_the_last_second() -> None:
    meter = Meter()
    for start in range(100):
        meter.run(start, start + 0.25)
    assert meter.utilisation(99.9) == pytest.approx(0.25)
    assert meter.utilisation(99.25, period=0.5) == pytest.approx(0.5)
    assert meter.busy_s(100) == pytest.approx(25)
    assert meter.utilisation(200) == 0


def test_same_seed_same_answers() -> None:
    profile = replace(PROFILES["quota"], distance_s=0.02)
    requests = [[i % 300 + 1] * (i % 7 + 1) for i in range(300)]
    first, second, other = ([when for when, _ in run(Gpu(profile, seed), requests)] for seed in (1, 1, 2))
    assert first == second != other


# the oracle


def test_requests_are_cut_by_rows_and_by_padded_tokens() -> None:
    for setting in (Setting(1, rows=100), Setting(1, tokens=4096), Setting(1, rows=7, tokens=900)):
        requests = requests_of(LENGTHS, setting)
        assert sorted(itertools.chain.from_iterable(requests)) == sorted(LENGTHS)
        assert max(map(len, requests)) <= setting.rows
        assert max(len(each) * max(each) for each in requests) <= setting.tokens
    assert len(requests_of(LENGTHS, Setting(1, rows=100))) == 200


@pytest.mark.parametrize("name", ["one", "one_unpadded", "host", "distant", "replicas", "noisy"])
def test_enough_in_flight_reaches_the_closed_form(name: str) -> None:
    profile = PROFILES[name]
    setting = Setting(64, rows=64)
    expected = saturated(profile, requests_of(LENGTHS, setting))
    assert capacity(profile, LENGTHS, setting) == pytest.approx(expected, rel=0.04)


def test_one_in_flight_pays_the_distance_each_time() -> None:
    profile = replace(EXACT, distance_s=0.09, padded=False)
    measured = measure(profile, [1000] * 100, Setting(1, rows=3))
    assert measured.tokens_per_s == pytest.approx(3000 / (0.09 + 0.04), rel=0.02)
    assert measured.busy == pytest.approx(0.04 / 0.13, rel=0.02)
    assert measured.p99_s == pytest.approx(0.13)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_be_filled_and_none_beyond_its_ceiling(name: str) -> None:
    profile = PROFILES[name]
    settings = [
        Setting(in_flight, min(rows, profile.most_inputs), tokens)
        for in_flight in (2, 8, 16, 40)
        for rows, tokens in ((32, 1 << 62), (2048, 8192), (2048, 45056))
    ]
    setting, measured = best(profile, LENGTHS, settings, seconds=5.0, most_p99_s=10)
    assert measured.tokens_per_s <= ceiling(profile) * 1.05  # noise, and what was begun before
    if profile.tokens_per_s or profile.requests_per_s:
        return
    most = 1 / (1 + profile.host_share)
    assert most * 0.96 <= measured.busy <= most * 1.02, setting


def test_a_wrong_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="no such field of a profile: colour"):
        changed(Profile(), {"colour": 1})
    with pytest.raises(msgspec.ValidationError):
        changed(Profile(), {"merge": "sometimes"})
    assert changed(Profile(), {}) == Profile()
    assert all(changed(each, dataclasses.asdict(each)) == each for each in PROFILES.values())

"""The law against the simulated servers: deterministic, so these are tests and not benchmarks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.driver.tuning.base import Bounds
from actors.driver.tuning.knee import Knee
from tests.servers.gpu.profiles import PROFILES as GPU_PROFILES
from tests.servers.gpu.profiles import Fault
from tests.simulation.bench import profile_of, score
from tests.simulation.engine import Engine
from tests.simulation.oracle import known
from tests.simulation.pool import Tally
from tests.simulation.profiles import PROFILES, Fixed, Profile, at_random, simulate
from tests.simulation.wired import Wired, wired

SEED = 1
FLOOR, HELD_OUT_FLOOR = 0.965, 0.93
SLOW = {"hosted_requests": 24.0}  # it shows itself by being met, and then by what larger requests are given
SLOW |= {"gpu-quota_requests": 18.0, "gpu-drawn11": 35.0}  # likewise
SLOW["gpu-drawn9"] = 20.0  # answers differ by half from one second to the next
MOST_REFUSED = {"hosted_requests": 0.02}  # while it is learnt
MOST_REFUSED["gpu-text_cap"] = 0.03  # four embedders of which two hold the old and two the new size
HELD_OUT = (3, 8, 14, 18, 21, 28, 32, 35)
WIRED = ["one", "host", "distant", "slow", "infinity", "infinity_256", "tei_oom", "tei_open", "text_cap"]
WIRED += ["request_cap", "quota", "quota_requests"]
DRAWN = 12
BY_CHANCE = [("one", 0.05), ("one", 0.2), ("request_cap", 0.05), ("text_cap", 0.05), ("tei", 0.05), ("tei", 0.2)]
BY_CHANCE += [("infinity", 0.05), ("replicas", 0.05)]


@pytest.fixture(scope="session")
def best() -> dict[str, Tally]:
    return {}


def fixed(name: str, profile: Profile) -> Tally:
    return simulate(profile, Fixed(known()[name]), SEED)


@pytest.mark.parametrize("name", PROFILES)
def test_share_of_the_best_fixed_setting(name: str) -> None:
    profile = PROFILES[name]
    law = simulate(profile, Knee(profile.says), SEED)
    result = score(name, profile, law, fixed(name, profile))
    assert result.share >= FLOOR
    assert result.t95 is not None
    assert result.t95 <= SLOW.get(name, 8.0)
    assert result.oom <= 3
    assert result.too_large <= 4
    assert result.refused <= MOST_REFUSED.get(name, 0.01) * result.done
    assert law.most_inflight <= max(decision.setting.limit for _, decision, _ in law.decisions)


@pytest.mark.parametrize("index", HELD_OUT)
def test_share_on_servers_drawn_at_random(index: int) -> None:
    name, profile = f"random{index}", at_random(index)
    law = simulate(profile, Knee(profile.says), SEED)
    result = score(name, profile, law, fixed(name, profile))
    assert result.share >= HELD_OUT_FLOOR
    assert result.oom <= 4


@pytest.mark.parametrize("name", [f"gpu-{name}" for name in [*WIRED, *(f"drawn{i}" for i in range(DRAWN))]])
def test_share_on_the_servers_that_speak_http_and_on_some_drawn_at_random(name: str) -> None:
    profile = profile_of(name)
    result = score(name, profile, simulate(profile, Knee(profile.says), SEED), fixed(name, profile))
    assert result.share >= (HELD_OUT_FLOOR if "drawn" in name else FLOOR)
    assert result.t95 is not None
    assert result.t95 <= SLOW.get(name, 8.0)
    assert result.oom <= 3
    assert result.refused <= MOST_REFUSED.get(name, 0.01) * result.done


@pytest.mark.parametrize(("name", "share"), BY_CHANCE)
def test_refusals_by_chance_cost_little_more_than_what_is_refused(name: str, share: float) -> None:
    def ill(engine: Engine, seed: int) -> Wired:
        return Wired(engine, replace(GPU_PROFILES[name], faults=share, fault=Fault.BUSY), seed)

    healthy = wired(name)
    law = simulate(replace(healthy, server=ill), Knee(healthy.says), SEED)
    best = simulate(healthy, Knee(healthy.says), SEED)
    assert law.rate(44, 60) >= 0.9 * best.rate(44, 60)


def test_a_cut_of_capacity_is_followed_within_eight_seconds() -> None:
    profile = PROFILES["cut"]
    law, oracle = simulate(profile, Knee(profile.says), SEED), fixed("cut", profile)
    for start, stop in ((28, 40), (48, 60)):
        assert law.rate(start, stop) >= 0.93 * oracle.rate(start, stop)


@pytest.mark.parametrize("name", ["direct", "tei", "oom", "replicas"])
def test_pinned_knobs(name: str) -> None:
    profile = PROFILES[name]
    limit = simulate(profile, Knee(Bounds(limit=6)), SEED, 30.0)
    assert {decision.setting.limit for at, decision, _ in limit.decisions if at > 2} == {6}
    assert limit.most_inflight <= 6
    rows = simulate(profile, Knee(Bounds(batch_rows=24)), SEED, 30.0)
    assert {decision.setting.batch_rows for _, decision, _ in rows.decisions} == {24}
    assert rows.rate(15, 30) > 0


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [simulate(PROFILES["oom"], Knee(Bounds()), 5, 20.0) for _ in range(2)]
    assert runs[0].completions == runs[1].completions
    assert [each[1] for each in runs[0].decisions] == [each[1] for each in runs[1].decisions]

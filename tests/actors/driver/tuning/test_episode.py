"""Refusals for what a server holds, told from those that come whatever it holds."""

from __future__ import annotations

import random

import pytest

from actors.driver.tuning.episode import USUAL, Episode
from actors.driver.tuning.measure import History
from actors.messages import Completion, Failure
from tests.actors.driver.tuning.ground import failure

ANSWER_S, WAY_S = 0.3, 0.01


def taken(at: float, rows: int = 50) -> Completion:
    """A request that reaches the server at this time."""
    return Completion(at + ANSWER_S + WAY_S / 2, ANSWER_S + WAY_S, rows, 50 * rows, 60 * rows)


def refused(at: float, rows: int = 50, way_s: float = WAY_S) -> Failure:
    return failure(at + way_s / 2, "overloaded", rows=rows, latency_s=way_s)


def arrivals(seed: int) -> list[tuple[float, int]]:
    """Times and texts of requests that come at any time: now more of them are held, now fewer."""
    chance = random.Random(seed)
    return sorted((chance.uniform(0, 12.0), chance.randrange(20, 80)) for _ in range(360))


def traffic(seed: int) -> list[Completion]:
    return [taken(at, rows) for at, rows in arrivals(seed)]


def episode(done: list[Completion], failures: list[Failure]) -> Episode:
    history = History()
    history.add(done)
    return Episode.of(failures, history, 12.0)


def test_refusals_at_any_time_are_usual() -> None:
    """But for those that by chance come while most is held."""
    chance = random.Random(1)
    found = [episode(traffic(seed), [refused(chance.uniform(5, 8))]) for seed in range(200)]
    assert sum(each.is_usual() for each in found) / len(found) == pytest.approx(USUAL, abs=0.12)


@pytest.mark.parametrize("in_texts", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_refusals_of_a_cap_are_not(seed: int, in_texts: bool) -> None:
    """What goes above the cap is refused, at once."""
    held: list[tuple[float, int]] = []
    done, failures = [], []
    for at, rows in arrivals(seed):
        held = [each for each in held if each[0] > at - ANSWER_S]
        if (sum(each[1] for each in held) + rows > 500) if in_texts else (len(held) >= 10):
            failures.append(refused(at, rows))
        else:
            held.append((at, rows))
            done.append(taken(at, rows))
    for first in [each for each in failures if 4 < each.at < 9]:
        assert not episode(done, [each for each in failures if first.at <= each.at < first.at + 0.3]).is_usual()


def test_from_afar_what_was_held_is_not_known_well() -> None:
    assert episode(traffic(1), [refused(6.0)]).near
    assert not episode(traffic(1), [refused(6.0, way_s=0.2)]).near
    assert not episode(traffic(1)[:3], [refused(6.0)]).near


def test_far_less_than_is_taken_at_other_times() -> None:
    busy = [taken(i / 60) for i in range(480)]
    quiet = [taken(8.5 + i * 0.4) for i in range(5)]
    assert episode([*busy, *quiet], [refused(8.8)]).is_low()
    assert not episode([*busy, *quiet], [refused(7.0)]).is_low()

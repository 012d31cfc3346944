"""What bursts of refusals teach: a cap in requests or in texts, a quota, and memory."""

from __future__ import annotations

import random

import pytest

from actors.driver.tuning.base import Bounds
from actors.driver.tuning.knee import Knee
from actors.driver.tuning.measure import History
from actors.driver.tuning.refusals import Cap, Memory
from actors.messages import Completion, Failure
from tests.actors.driver.tuning.ground import failure


def burst(rows: list[int], cap: int, in_texts: bool, seed: int) -> tuple[list[Completion], list[Failure]]:
    """Requests of so many rows, one after another at a server that takes 0.5 s each and refuses above a cap."""
    chance = random.Random(seed)
    held: list[Completion] = []
    done: list[Completion] = []
    refused: list[Failure] = []
    now = 10.0
    for _ in range(400):
        now += 0.02
        held = [each for each in held if each.at > now]
        count = chance.choice(rows)
        used = sum(each.rows for each in held) + count if in_texts else len(held) + 1
        late = chance.uniform(0, 0.002)  # requests of one burst overtake each other
        if used > cap:
            refused.append(failure(now + 0.01, "overloaded", rows=count, latency_s=0.01 + late))
        else:
            held.append(Completion(now + 0.5 + chance.uniform(0, 0.1), 0.5, count, 50 * count, 60 * count))
            held[-1] = Completion(held[-1].at, held[-1].at - now + late, count, 50 * count, 60 * count)
            done.append(held[-1])
    return done, refused


def judged(done: list[Completion], refused: list[Failure]) -> Cap:
    cap, history = Cap(), History()
    history.add(done)
    assert cap.refuse(refused, history, 30.0)
    assert cap.judge(history, refused[0].at) is None
    assert cap.judge(history, 30.0)
    return cap


@pytest.mark.parametrize("seed", range(5))
def test_a_cap_in_requests_is_found(seed: int) -> None:
    cap = judged(*burst([20, 40, 80, 160, 300], 24, in_texts=False, seed=seed))
    assert cap.texts is None
    assert cap.requests == pytest.approx(24, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_cap_in_texts_is_found(seed: int) -> None:
    cap = judged(*burst([20, 40, 80, 160, 300], 1500, in_texts=True, seed=seed))
    assert cap.requests is None
    assert cap.texts == pytest.approx(1500, rel=0.15)
    assert cap.texts is not None
    limit = cap.most(2048)
    assert cap.texts * 0.6 <= limit * cap.rows(limit, 2048) <= cap.texts
    assert cap.rows(limit // 2, 2048) > cap.rows(limit, 2048)


def test_a_later_episode_can_change_the_unit() -> None:
    done, refused = burst([64], 512, in_texts=True, seed=1)
    cap = judged(done, refused)
    history = History()
    done, refused = burst([10, 20, 500], 8, in_texts=False, seed=2)
    history.add(done)
    cap.refuse(refused, history, 30.0)
    cap.judge(history, 30.0)
    assert cap.texts is None
    assert cap.requests == pytest.approx(8, abs=1)


def test_a_cap_that_is_told_is_never_exceeded() -> None:
    cap = Cap(told_requests=10)
    assert cap.limit(100) == 10
    assert not cap.relax(1000.0)


def test_a_cap_is_tried_again_more_seldom_each_time_it_holds() -> None:
    cap = Cap()
    done, refused = burst([20, 300], 24, in_texts=False, seed=3)
    history = History()
    history.add(done)
    waits = []
    now = 30.0
    for _ in range(3):
        cap.refuse([failure(refused[9].at, "overloaded")], history, 30.0)
        cap._relaxed = refused[9].at - 1.0  # it was relaxed just before
        cap.judge(history, now)
        start = now
        while not cap.relax(now):
            now += 1.0
        waits.append(now - start)
    assert waits == sorted(waits)
    assert waits[-1] >= 2 * waits[0]


def test_refusals_by_chance_teach_nothing() -> None:
    chance = random.Random(1)
    done = [Completion(10 + i * 0.02, 0.3, 50, 2500, 2500) for i in range(500)]
    for share in (0.02, 0.1, 0.2):
        refused = [
            failure(each.at + 0.005, "overloaded", rows=50, latency_s=0.01)
            for each in done
            if 15 < each.at < 15.3 and chance.random() < share
        ] or [failure(15.105, "overloaded", rows=50, latency_s=0.01)]
        history, cap = History(), Cap()
        history.add(done)
        assert cap.refuse(refused, history, 30.0)
        assert cap.judge(history, 30.0, raised_at=14.9)  # more was asked for just before
        assert cap.by_chance
        assert (cap.requests, cap.texts) == (None, None)
        assert not cap.refuse(refused[:3], history, 16.0)  # they are expected now


def test_by_chance_too_a_cap_is_kept_that_many_refusals_told_of() -> None:
    done, refused = burst([20, 40, 80, 160, 300], 24, in_texts=False, seed=1)
    cap = judged(done, refused)
    chance = random.Random(2)
    history = History()
    history.add([Completion(chance.uniform(31, 36), 0.3, 50, 2500, 2500) for _ in range(100)])
    cap.refuse([failure(34.0, "overloaded", rows=50, latency_s=0.01)], history, 34.1)
    assert cap.judge(history, 40.0)
    assert cap.by_chance
    assert cap.requests == pytest.approx(24, abs=2)


def test_by_chance_too_requests_of_more_texts_than_are_ever_taken_are_a_cap() -> None:
    history, cap = History(), Cap()
    history.add([Completion(10 + i * 0.02, 0.3, 50, 2500, 2500) for i in range(500)])
    assert cap.refuse([failure(15.105, "overloaded", rows=50, latency_s=0.01)], history, 15.2)
    assert cap.judge(history, 18.0)
    assert cap.by_chance
    large = [failure(19 + 0.2 * i, "overloaded", rows=2000, latency_s=0.01) for i in range(3)]
    assert not cap.refuse(large[:1], history, 19.1)
    assert cap.refuse(large[1:], history, 19.5)
    assert not cap.by_chance
    cap.judge(history, 20.0)
    assert cap.texts is not None
    assert cap.texts < 2000


def test_where_nothing_comes_through_smaller_requests_are_tried() -> None:
    history, cap = History(), Cap()
    history.add([Completion(1.0, 0.3, 50, 2500, 2500)])
    told = []
    for start in (10.0, 20.0, 30.0, 40.0):
        cap.refuse([failure(start, "overloaded", rows=1500, status=429)], history, start)
        told.append((cap.judge(history, start + 5), cap.texts))
    assert [texts for _, texts in told] == [None, 750, 750, 750]
    away = Cap()
    for start in (10.0, 20.0, 30.0):
        away.refuse([failure(start, "overloaded", rows=1500, status=503)], history, start)
        assert away.judge(history, start + 5) == "refused, and nothing came through: it is away"


def test_refusals_while_far_less_is_held_are_expected_from_then_on() -> None:
    busy = [Completion(10 + i * 0.02, 0.3, 50, 2500, 2500) for i in range(500)]
    idle = [Completion(21 + i * 0.2, 0.3, 50, 2500, 2500) for i in range(5)]
    history, cap = History(), Cap(told_requests=100)
    history.add([*busy, *idle])
    cap.requests = 12  # from an earlier one

    def refused(count: int, start: float) -> list[Failure]:
        return [failure(start + 0.01 * i, "overloaded", rows=50, latency_s=0.01) for i in range(count)]

    assert cap.refuse(refused(4, 20.2), history, 20.5)
    assert cap.judge(history, 30.0)
    assert cap.by_chance
    assert cap.requests == 100
    assert not cap.refuse(refused(3, 24.5), history, 25.0)  # as expected
    assert cap.refuse(refused(40, 25.0), history, 25.5)  # they are too many for that
    assert not cap.by_chance


def test_no_cap_in_texts_is_below_what_was_taken_alone() -> None:
    done = [Completion(10 + i * 0.1, 0.09, 256, 9000, 9000) for i in range(50)]
    cap, history = Cap(), History()
    history.add(done)
    cap.refuse([failure(12.008, "overloaded", rows=5, latency_s=0.004)], history, 30.0)
    cap.judge(history, 30.0)
    assert cap.texts is None


def test_memory_is_to_blame_only_for_sizes_that_never_worked() -> None:
    memory = Memory()
    memory.worked(10_000)
    assert not memory.too_much(failure(0, "backend", size=10_000))
    assert memory.too_much(failure(0, "backend", size=40_000))
    assert memory.room(1 << 17) == 20_000
    memory.worked(20_000)
    assert memory.too_much(failure(0, "backend", size=28_000))
    assert memory.room(1 << 17) == 20_000


def test_a_short_retry_after_is_no_quota() -> None:
    from tests.actors.driver.tuning.ground import Ground

    ground = Ground(Knee(Bounds()), lambda setting: 100_000.0)
    ground.until("first answer")
    ground.failures = [failure(ground.now, "overloaded", retry_after_s=0.1)]
    assert ground.tick().setting.tokens_per_s is None
    ground.failures = [failure(ground.now, "overloaded", retry_after_s=1.0)]
    assert ground.tick().setting.tokens_per_s is not None

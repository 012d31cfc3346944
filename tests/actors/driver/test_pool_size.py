"""How many embedders a node should have, in simulated time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actors.driver.pool_size import AGAIN_S, NodeLoad, PoolSize

TICK_S = 0.25


class Ground:
    """Nodes whose newcomers come after `start_s`; the client can do `each` rows/s, the server `server` of them."""

    def __init__(
        self, server: Callable[[float], float], each: float = 10_000, cores: float = 8, start_s: float = 3.0
    ) -> None:
        self.size = PoolSize()
        self.now, self._server, self._each, self._cores, self._start_s = 0.0, server, each, cores, start_s
        self._there, self._asked = 1, 0.0
        self.seen: list[int] = []

    def run(self, seconds: float) -> int:
        for _ in range(int(seconds / TICK_S)):
            self.now += TICK_S
            wanted = self.size.wanted.get("n", 1)
            self._asked = self.now if wanted <= self._there else self._asked
            if wanted < self._there or self.now - self._asked >= self._start_s:
                self._there = wanted
            rate = min(
                self._server(self.now), self._there * min(self._each, self._each * self._cores / self._there)
            )
            share = rate / (self._there * self._each)
            idle = max(0.0, self._cores - share * self._there)
            self.size.look([NodeLoad("n", self._there, share, idle)], rate, self.now)
            self.seen.append(self.size.wanted["n"])
        return self.size.wanted["n"]


@pytest.mark.parametrize(("server", "embedders"), [(5_000, 1), (8_000, 1), (15_000, 2), (35_000, 4)])
def test_as_many_as_the_server_needs(server: float, embedders: int) -> None:
    ground = Ground(lambda _: server)
    assert ground.run(60) == embedders
    assert ground.run(400) == embedders
    assert ground.seen[-1000:].count(embedders) >= 900


@pytest.mark.parametrize("cores", [1.0, 1.8])
def test_no_newcomer_where_no_core_is_free(cores: float) -> None:
    ground = Ground(lambda _: 1e9, cores=cores)
    ground.run(300)
    assert set(ground.seen) == {1}


def test_never_more_than_there_are_cores_for() -> None:
    assert Ground(lambda _: 1e9, cores=4).run(300) in (3, 4)


def test_a_newcomer_that_brings_nothing_goes_and_the_next_try_comes_later() -> None:
    ground = Ground(lambda _: 9_500)
    ground.run(600)
    tries = sum(later > earlier for earlier, later in zip(ground.seen, ground.seen[1:], strict=False))
    assert 1 <= tries <= 5
    assert ground.seen.count(1) > 0.8 * len(ground.seen)


def test_one_that_never_comes_is_given_up() -> None:
    ground = Ground(lambda _: 1e9, start_s=1e9)
    ground.run(0.8 * AGAIN_S)
    assert (max(ground.seen), ground.seen[-1]) == (2, 1)


def test_it_shrinks_when_the_server_becomes_slower() -> None:
    ground = Ground(lambda now: 35_000 if now < 100 else 4_000)
    assert ground.run(100) == 4
    assert ground.run(150) == 1


def test_each_node_for_itself() -> None:
    size = PoolSize()
    for step in range(40):
        loads = [NodeLoad("busy", 1, 0.98, 7.0), NodeLoad("idle", 1, 0.2, 7.8)]
        size.look(loads, 10_000, step * TICK_S)
    assert size.wanted == {"busy": 2, "idle": 1}

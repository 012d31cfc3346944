"""How many embedders a node should have. Pure: told the time and what each node's embedders use.

An embedder does its work on one event loop, so on one core. When that core is busy and others are free, one more is
started, and kept if it brought more rows. Where fewer would do as well, the last one is let go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BUSY, BUSY_S = 0.85, 3.0  # of its core, and for how long, before there is one more
FREE_CORES = 1.0  # that the newcomer needs
START_S, JUDGE_S = 20.0, 5.0  # for the newcomer to come, and to be judged by what the pool then delivers
WORTH = 1.1  # times as many rows/s
QUIET, QUIET_S = 0.6, 15.0  # of its core, if there were one less, and for how long, before there is
AGAIN_S, MOST_AGAIN_S = 60.0, 960.0  # after one that brought nothing; doubles each time
SMOOTHING_S = 2.0


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """A node's embedders since the last look: `loop_share` is of one core, a mean over them."""

    node: str
    embedders: int
    loop_share: float
    idle_cores: float


@dataclass(slots=True)
class _Node:
    wanted: int = 1
    share: float = 0.0
    idle_cores: float = 0.0
    busy_since: float | None = None
    quiet_since: float | None = None
    not_before: float = 0.0
    again_s: float = AGAIN_S
    rate_before: float | None = None  # of the pool, before the last newcomer, which is on trial
    asked: float = 0.0  # when that was
    complete: float | None = None  # since when it is there


class PoolSize:
    """`wanted` embedders by node; one on a node of which nothing was heard yet."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._rate = 0.0
        self._now: float | None = None

    @property
    def wanted(self) -> dict[str, int]:
        return {name: node.wanted for name, node in self._nodes.items()}

    def look(self, loads: Iterable[NodeLoad], rows_per_s: float, now: float) -> None:
        """What there is now; `rows_per_s` is delivered by the whole pool since the last look."""
        weight = 1.0 if self._now is None else min(1.0, (now - self._now) / SMOOTHING_S)
        self._now = now
        self._rate += weight * (rows_per_s - self._rate)
        for load in loads:
            node = self._nodes.setdefault(load.node, _Node(share=load.loop_share, idle_cores=load.idle_cores))
            node.share += weight * (load.loop_share - node.share)
            node.idle_cores += weight * (load.idle_cores - node.idle_cores)
            self._decide(node, load.embedders, now)

    def _decide(self, node: _Node, there: int, now: float) -> None:
        if node.rate_before is not None:
            self._judge(node, node.rate_before, there, now)
            return
        quiet = node.wanted > 1 and node.share * node.wanted / (node.wanted - 1) < QUIET
        node.quiet_since = (node.quiet_since or now) if quiet else None
        busy = node.share >= BUSY and node.idle_cores >= FREE_CORES and there >= node.wanted
        node.busy_since = (node.busy_since or now) if busy else None
        if node.quiet_since is not None and now - node.quiet_since >= QUIET_S:
            node.wanted, node.quiet_since = node.wanted - 1, None
        elif node.busy_since is not None and now - node.busy_since >= BUSY_S and now >= node.not_before:
            node.rate_before, node.asked, node.complete, node.busy_since = self._rate, now, None, None
            node.wanted += 1

    def _judge(self, node: _Node, before: float, there: int, now: float) -> None:
        """Whether the newcomer is worth its core."""
        if there >= node.wanted and node.complete is None:
            node.complete = now
        late = now - node.asked > START_S and node.complete is None
        if not late and (node.complete is None or now - node.complete < JUDGE_S):
            return
        node.rate_before = None
        if not late and self._rate >= WORTH * before:
            node.again_s = AGAIN_S
            return
        node.wanted -= 1
        node.not_before = now + node.again_s
        node.again_s = min(MOST_AGAIN_S, 2 * node.again_s)

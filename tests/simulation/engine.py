"""Simulated time: what happens next, and when."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Engine:
    """Runs calls in the order of their times; calls of the same time in the order they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def at(self, time: float, call: Callable[[], None]) -> None:
        self._asked += 1
        heapq.heappush(self._calls, (time, self._asked, call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now + seconds, call)

    def run(self, until: float) -> None:
        while self._calls and self._calls[0][0] <= until:
            self.now, _, call = heapq.heappop(self._calls)
            call()
        self.now = until

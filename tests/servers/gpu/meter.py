"""How busy one simulated GPU was, in simulated time."""

from __future__ import annotations

from collections import deque

_KEPT_S = 3.0


class Meter:
    """The times in which a kernel ran. They are known when a batch begins, so `run` may reach into the future."""

    def __init__(self) -> None:
        self._runs: deque[tuple[float, float]] = deque()
        self._settled = 0.0

    def run(self, start: float, end: float) -> None:
        """A kernel runs from `start` to `end` (s), after every one before."""
        self._runs.append((start, end))
        while self._runs[0][1] < start - _KEPT_S:
            first = self._runs.popleft()
            self._settled += first[1] - first[0]

    def busy_s(self, until: float) -> float:
        """Seconds in which a kernel ran before `until`, which is at most `_KEPT_S` before the last `run`."""
        return self._settled + sum(min(end, until) - start for start, end in self._runs if start < until)

    def utilisation(self, now: float, period: float = 1.0) -> float:
        """The share of the last `period` (s) in which a kernel ran."""
        return (self.busy_s(now) - self.busy_s(now - period)) / period

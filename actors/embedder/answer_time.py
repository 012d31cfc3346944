"""How long to wait for an answer: far longer than answers take, so that a server that hangs is found soon."""

from __future__ import annotations

from collections import deque

LEAST_S, MOST_S = 10.0, 300.0  # the most also for the first answer: a large batch on a CPU takes minutes
TIMES = 8.0  # the longest of the last answers
LOOKED_AT = 256  # of the last answers


class AnswerTime:
    """Follows measured latency."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=LOOKED_AT)

    def came(self, seconds: float) -> None:
        """An answer took so long."""
        self._last.append(seconds)

    def limit_s(self, timeouts: int = 0) -> float:
        """Seconds to wait for an answer that has failed to come so many times: twice as long each time."""
        least = max(LEAST_S, TIMES * max(self._last)) if self._last else MOST_S
        return min(MOST_S, least * 2.0 ** min(timeouts, 10))

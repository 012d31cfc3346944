"""What waits at a server by what its answers tell of themselves: TEI's `x-queue-time` and `x-inference-time`.

For a server whose pages cannot be seen, as behind a gateway. It knows only of the texts of this embedder.
"""

from __future__ import annotations

from actors.messages import QueueSample

SOURCE = "tei-headers"
_SMOOTHING = 0.1
_LOST_S = 10.0  # without an answer


class Waits:
    """By Little's law: of the texts under way, the share that an answer's waiting has of its time."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._waiting = self._running = 0.0

    def came(self, at: float, latency_s: float, texts: int, queued_s: float | None, worked_s: float | None) -> None:
        """An answer, while so many texts were under way, that tells how long its own waited and were worked on."""
        if queued_s is None or worked_s is None or latency_s <= 0:
            return
        waiting, running = (texts * min(1.0, seconds / latency_s) for seconds in (queued_s, worked_s))
        share = 1.0 if self._at is None else _SMOOTHING
        self._waiting += share * (waiting - self._waiting)
        self._running += share * (running - self._running)
        self._at = at

    def sample(self, now: float) -> QueueSample | None:
        if self._at is None or now - self._at > _LOST_S:
            return None
        return QueueSample(round(self._waiting), round(self._running), SOURCE, now - self._at, own=True)

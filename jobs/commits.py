"""What lasts of an output is shown to its readers now and then, where that is a step of its own."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

from actors.output.sinks import Sink
from actors.queue.plan import Plan

_EVERY_S = 30.0
_SHARE = 20  # and of the time at most one part in so many


class Commits:
    """In a thread of its own, so that nothing waits. One that fails is made up for by the next."""

    def __init__(self, sink: Sink, plan: Plan) -> None:
        self._sink, self._plan = sink, plan
        self._pool = ThreadPoolExecutor(1, "commit")
        self._running: Future[float] | None = None
        self._due = time.monotonic() + _EVERY_S

    def now_and_then(self) -> None:
        """Begin with one if it is time."""
        if self._running and self._running.done():
            took = 0.0 if self._running.exception() else self._running.result()
            self._due = time.monotonic() + max(_EVERY_S, took * _SHARE)
            self._running = None
        if self._running is None and time.monotonic() >= self._due:
            self._running = self._pool.submit(self._commit)

    def close(self) -> None:
        """When none is running any more."""
        self._pool.shutdown()

    def _commit(self) -> float:
        began = time.monotonic()
        self._sink.commit(self._plan)
        return time.monotonic() - began

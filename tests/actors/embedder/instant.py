"""Time that jumps to whatever comes next: pauses, backoff and patience as they are, without the waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")
MOST_LOOKS = 20_000  # at what comes next: nothing takes so many


class _Clock(selectors.SelectSelector):
    now = 1000.0
    looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for nobody"
        self.looks += 1
        assert timeout <= 0 or self.looks < MOST_LOOKS, "it does not end"
        self.now += max(0.0, timeout)
        return super().select(0)


class _InstantLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = _Clock()
        super().__init__(self._now)

    def time(self) -> float:
        return self._now.now


def at_once(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, in which lanes know no other time than its event loop's."""
    with asyncio.Runner(loop_factory=_InstantLoop) as runner:
        clock = SimpleNamespace(monotonic=runner.get_loop().time)
        with mock.patch("actors.embedder.line.time", clock):
            return runner.run(main)

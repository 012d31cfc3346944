"""Memory for answers, used again: to be given fresh pages costs more CPU than to receive into them.

In pages of their own: of what malloc gets back in pieces of megabytes it keeps a lot, and still asks for more.
"""

from __future__ import annotations

import asyncio
import mmap
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

_LEAST_BYTES = 1 << 16  # that are worth pages of their own
_IDLE_BYTES = 1 << 25  # kept for answers to come: with more, no CPU is saved that can be measured
_FILLED_BYTES = 1 << 28  # of answers that come in or are decoded: one core decodes them all, more would only wait

Memory = bytearray | mmap.mmap


class Bodies:
    """Lends memory by the byte. Of what comes back it keeps `_IDLE_BYTES`, or one body; the system has the rest.

    Memory costs nothing before it is written to, and so what may be filled at the same time is limited, not what is
    lent: `_FILLED_BYTES`, or one body. To be used in one event loop.
    """

    def __init__(self) -> None:
        self._idle: list[mmap.mmap] = []  # the last used is the last
        self._loans: weakref.WeakKeyDictionary[mmap.mmap, _Loan] = weakref.WeakKeyDictionary()
        self._waiting: deque[_Loan] = deque()
        self._filled: set[_Loan] = set()
        self._filled_bytes = 0

    def take(self, size: int) -> Memory:
        """`size` bytes with anything in them."""
        if size < _LEAST_BYTES or not hasattr(mmap, "MAP_PRIVATE"):  # as on Windows
            return bytearray(size)
        for i in reversed(range(len(self._idle))):
            if size <= 2 * len(self._idle[i]) <= 4 * size:
                body = self._idle.pop(i)
                body.resize(size)
                return body
        body = mmap.mmap(-1, size, mmap.MAP_PRIVATE)  # private, since what is shared cannot grow
        with suppress(AttributeError, OSError):  # Linux only
            body.madvise(mmap.MADV_HUGEPAGE)
        return body

    def may_fill(self, body: Memory, when_it_may: Callable[[], None]) -> bool:
        """Whether what `take` gave may be filled now; if not, `when_it_may` is called later.

        It counts until it is given back or nobody holds it any more. What has no pages of its own does not count.
        """
        if not isinstance(body, mmap.mmap):
            return True
        loan = self._loans[body] = _Loan(body, when_it_may, self._leave)
        if self._waiting or not self._has_room(loan):
            self._waiting.append(loan)
            return False
        self._fill(loan)
        return True

    def give(self, body: Memory) -> None:
        """Take back what `take` gave, unless somebody still looks at it. Other memory is let go."""
        if not isinstance(body, mmap.mmap):
            return
        try:
            body.resize(len(body))  # is refused while there is a view of it, and always where the system cannot
        except (BufferError, SystemError, AttributeError):
            return
        if loan := self._loans.pop(body, None):
            self._leave(loan)
        self._idle.append(body)
        while len(self._idle) > 1 and sum(map(len, self._idle)) > _IDLE_BYTES:
            self._idle.pop(0).close()

    def _has_room(self, loan: _Loan) -> bool:
        return not self._filled or self._filled_bytes + loan.size <= _FILLED_BYTES

    def _fill(self, loan: _Loan) -> None:
        self._filled.add(loan)
        self._filled_bytes += loan.size

    def _leave(self, loan: _Loan) -> None:
        if loan in self._filled:
            self._filled.remove(loan)
            self._filled_bytes -= loan.size
        else:
            loan.is_over = True
        while self._waiting and (self._waiting[0].is_over or self._has_room(self._waiting[0])):
            following = self._waiting.popleft()
            if not following.is_over:
                self._fill(following)
                following.go()


class _Loan:
    """A body that may be filled, or waits for it."""

    def __init__(self, body: mmap.mmap, go: Callable[[], None], leave: Callable[[_Loan], None]) -> None:
        self.size = len(body)
        self.go = go
        self.is_over = False
        loop = asyncio.get_running_loop()

        def gone(_: object) -> None:  # in whatever thread let go of it last
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(leave, self)

        self._body = weakref.ref(body, gone)

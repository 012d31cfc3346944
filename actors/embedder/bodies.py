"""Memory for answers, used again: to be given fresh pages costs more CPU than to receive into them.

In pages of their own: of what malloc gets back in pieces of megabytes it keeps a lot, and still asks for more.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

_LEAST_BYTES = 1 << 16  # that are worth pages of their own
_IDLE_BYTES = 1 << 25  # kept for answers to come: with more, no CPU is saved that can be measured

Memory = bytearray | mmap.mmap


class Bodies:
    """Lends memory by the byte. Of what comes back it keeps `_IDLE_BYTES`, or one body; the system has the rest."""

    def __init__(self) -> None:
        self._idle: list[mmap.mmap] = []  # the last used is the last

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

    def give(self, body: Memory) -> None:
        """Take back what `take` gave, unless somebody still looks at it. Other memory is let go."""
        if not isinstance(body, mmap.mmap):
            return
        try:
            body.resize(len(body))  # is refused while there is a view of it, and always where the system cannot
        except (BufferError, SystemError, AttributeError):
            return
        self._idle.append(body)
        while len(self._idle) > 1 and sum(map(len, self._idle)) > _IDLE_BYTES:
            self._idle.pop(0).close()

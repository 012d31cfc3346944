"""A thread that looks at something now and then."""

from __future__ import annotations

import threading
from typing import Protocol

_AGAIN_S = 30.0
_LONGEST_S = 3600.0  # what a thread may wait for is bounded


class Source(Protocol):
    """Both are called by one thread."""

    def look(self) -> float:
        """Read it once. Seconds until that is worth while again, infinite when it never will be."""
        ...

    def close(self) -> None: ...


def look_at(source: Source) -> float:
    """`source.look()`, whatever happens there."""
    try:
        return source.look()
    except Exception:  # a driver or a library with a fault of its own must not end the job
        return _AGAIN_S


class Poller:
    """Looks again and again, until it is no longer worth while or `close` was called; then closes the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="gauge", daemon=True).start()

    def close(self) -> None:
        """Does not wait for a look that is under way."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            after_s = look_at(self._source)
            if after_s > _LONGEST_S or self._closed.wait(after_s):
                break
        self._source.close()

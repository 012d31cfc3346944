"""Memory for vectors, used again and again: to be given fresh pages costs more CPU than to fill them."""

from __future__ import annotations

import mmap
from contextlib import suppress
from threading import Lock

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_MOST_WASTE = 4  # a block may be so many times as large as what is asked for


class Blocks:
    """Lends blocks of bytes, to any thread. Never gives memory back to the system: a job needs its peak again."""

    def __init__(self) -> None:
        self._free: list[Bytes] = []
        self._lock = Lock()

    def take(self, size: int) -> Bytes:
        """uint8[at least size], with anything in it."""
        with self._lock:
            fitting = [i for i, each in enumerate(self._free) if size <= each.nbytes <= _MOST_WASTE * size]
            if fitting:
                return self._free.pop(min(fitting, key=lambda i: self._free[i].nbytes))
        pages = mmap.mmap(-1, max(size, mmap.PAGESIZE))
        with suppress(AttributeError, OSError):  # Linux only
            pages.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(pages, np.uint8)

    def give(self, block: Bytes) -> None:
        """Take back a block that nobody looks at any more."""
        with self._lock:
            self._free.append(block)

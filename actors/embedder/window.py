"""The open window: rows read but not yet sent, and how requests are cut from them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.embedder.open_part import OpenPart

BYTES_PER_TOKEN = 4  # of UTF-8, on average; good enough to bound a request

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Places:
    """Rows of one open part."""

    part: OpenPart
    rows: Ints


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one request, and where their vectors belong, in the same order."""

    texts: list[str]
    places: tuple[Places, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches that together are this one. Needs at least two texts."""
        middle = len(self) // 2
        return self._slice(0, middle), self._slice(middle, len(self))

    def place(self, vectors: npt.NDArray[np.float32]) -> None:
        """Hand each open part its vectors."""
        start = 0
        for each in self.places:
            each.part.place(each.rows, vectors[start : start + len(each.rows)])
            start += len(each.rows)

    def refuse(self, reason: str, status: int | None, detail: str) -> None:
        """Reject every row."""
        for each in self.places:
            each.part.refuse(each.rows, reason, status, detail)

    def _slice(self, start: int, stop: int) -> Batch:
        places, at = [], 0
        for each in self.places:
            rows = each.rows[max(0, start - at) : max(0, stop - at)]
            if len(rows):
                places.append(Places(each.part, rows))
            at += len(each.rows)
        return Batch(self.texts[start:stop], tuple(places))


@dataclass(slots=True)
class _Waiting:
    part: OpenPart
    texts: list[str]
    tokens: Ints  # estimated, one a sendable row
    next: int = 0  # the first sendable row not yet sent


class Window:
    """Rows wait here in input order. One event loop; nothing here blocks."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._something = asyncio.Event()
        self._closed = False
        self.rows = 0

    def add(self, part: OpenPart) -> None:
        """Open a part's sendable rows for sending."""
        if not len(part.sendable):
            return
        texts = part.texts(part.sendable)
        tokens = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))
        self._waiting.append(_Waiting(part, texts, -(-tokens // BYTES_PER_TOKEN)))
        self.rows += len(texts)
        self._something.set()

    def take(self, most_rows: int, most_tokens: int) -> Batch | None:
        """Cut the next request: at most `most_rows` texts and, unless one text alone has more, `most_tokens`.

        None when nothing waits.
        """
        texts: list[str] = []
        places: list[Places] = []
        tokens = 0
        while self._waiting and len(texts) < most_rows:
            head = self._waiting[0]
            costs = np.cumsum(head.tokens[head.next : head.next + most_rows - len(texts)])
            fitting = int(np.searchsorted(costs, most_tokens - tokens, "right"))
            if not fitting and texts:
                break
            fitting = max(1, fitting)
            tokens += int(costs[fitting - 1])
            stop = head.next + fitting
            texts += head.texts[head.next : stop]
            places.append(Places(head.part, head.part.sendable[head.next : stop]))
            head.next = stop
            if stop < len(head.texts):
                break
            self._waiting.popleft()
        self.rows -= len(texts)
        if not self._waiting and not self._closed:
            self._something.clear()
        return Batch(texts, tuple(places)) if texts else None

    def close(self) -> None:
        """No more will be sent: everybody who waits is let go."""
        self._closed = True
        self._something.set()

    @property
    def closed(self) -> bool:
        return self._closed

    async def something(self) -> bool:
        """Wait until a row waits (True) or the window is closed (False)."""
        await self._something.wait()
        return not self._closed

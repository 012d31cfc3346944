"""The open window: rows read but not yet sent, by length, and how requests are cut from them.

A server that pads works on rows x longest text, so texts of similar length go together. Rows wait in buckets of
similar length, and requests are drawn from all lengths in turn: whoever watches a few requests sees the corpus, not
its short texts for a while and then its long ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from actors.embedder.batch import Batch, Places, batch_of
from actors.embedder.open_part import OpenPart

BYTES_PER_TOKEN = 4.0  # of UTF-8, until the server's own count says better

_BUCKETS_PER_OCTAVE = 4  # lengths in one bucket differ by at most 19 %
_BUCKETS = 32 * _BUCKETS_PER_OCTAVE
_GOLDEN = 0.6180339887498949  # steps of it spread evenly over all lengths, whatever their number
_OLDEST_EVERY = 8
_SERVER_BATCH = 32  # TEI's and Infinity's default
_SMOOTHING = 0.05
_MOST_BYTES_PER_TOKEN = 16.0

Ints = npt.NDArray[np.int64]


class _Waiting(NamedTuple):
    """Rows, and how many requests had been taken when they came."""

    places: Places
    since: int


class Window:
    """Rows wait here until a request takes them. One event loop; nothing here blocks."""

    def __init__(self) -> None:
        self._buckets: list[deque[_Waiting]] = [deque() for _ in range(_BUCKETS)]
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._turn = 0  # requests taken
        self._at = 0.5  # the share of the waiting rows that is shorter than the next request's longest text
        self._something = asyncio.Event()
        self._closed = False
        self.bytes_per_token = BYTES_PER_TOKEN

    @property
    def rows(self) -> int:
        """How many wait."""
        return int(self._counts.sum())

    def add(self, part: OpenPart) -> None:
        """Open a part's sendable rows for sending."""
        rows = part.sendable
        if not len(rows):
            return
        lengths = np.fromiter((len(text.encode()) for text in part.texts(rows)), np.int64, len(rows))
        buckets = _bucket_of(lengths)
        for bucket in np.unique(buckets):
            chosen = rows[buckets == bucket]
            self._buckets[bucket].append(_Waiting(Places(part, chosen), self._turn))
            self._counts[bucket] += len(chosen)
        self._something.set()

    def take(self, most_rows: int, most_tokens: int) -> Batch | None:
        """Cut the next request: at most `most_rows` texts, with rows x longest within `most_tokens` tokens.

        A text that has more alone goes alone. None when nothing waits.
        """
        waiting = np.flatnonzero(self._counts)
        if not len(waiting):
            return None
        most_bytes = int(most_tokens * self.bytes_per_token)
        places: list[Places] = []
        taken = 0
        start = self._next_start(waiting)
        # from there to ever shorter texts, which fit where it fits; then to longer ones, of which fewer do
        for bucket in (*waiting[: start + 1][::-1], *waiting[start + 1 :]):
            longest = _longest(max(int(bucket), int(waiting[start])))
            room = min(most_rows, _whole(max(1, most_bytes // longest))) - taken
            if room <= 0:
                break
            for each in self._pop(int(bucket), room):
                places.append(each)
                taken += len(each.rows)
        if not self._counts.any() and not self._closed:
            self._something.clear()
        return batch_of([text for each in places for text in each.part.texts(each.rows)], places)

    def calibrate(self, sent_bytes: int, tokens: int) -> None:
        """Learn from an answer how many bytes the server counts as a token."""
        seen = min(_MOST_BYTES_PER_TOKEN, max(1.0, sent_bytes / tokens))
        self.bytes_per_token += _SMOOTHING * (seen - self.bytes_per_token)

    def close(self) -> None:
        """No more will be sent: everybody who waits is let go."""
        self._closed = True
        self._something.set()

    async def something(self) -> bool:
        """Wait until a row waits (True) or the window is closed (False)."""
        await self._something.wait()
        return not self._closed

    def _next_start(self, waiting: Ints) -> int:
        """Where in `waiting` the next request begins, stepping evenly over the rows.

        Now and then it is the row that has waited longest, since a length that is rare would wait for ever, and its
        part with it.
        """
        self._turn += 1
        if self._turn % _OLDEST_EVERY == 0:
            return int(np.argmin([self._buckets[bucket][0].since for bucket in waiting]))
        self._at = (self._at + _GOLDEN) % 1.0
        shorter = np.cumsum(self._counts[waiting])
        return int(np.searchsorted(shorter, self._at * shorter[-1], "right"))

    def _pop(self, bucket: int, most: int) -> list[Places]:
        """Up to `most` rows that have waited longest in the bucket."""
        places: list[Places] = []
        queue = self._buckets[bucket]
        while queue and most > 0:
            head, since = queue.popleft()
            if len(head.rows) > most:
                queue.appendleft(_Waiting(Places(head.part, head.rows[most:]), since))
                head = Places(head.part, head.rows[:most])
            places.append(head)
            most -= len(head.rows)
            self._counts[bucket] -= len(head.rows)
        return places


def _whole(rows: int) -> int:
    """A multiple of the texts that servers put into one of their own batches, so that none is left half full."""
    return rows if rows < _SERVER_BATCH else rows - rows % _SERVER_BATCH


def _bucket_of(lengths: Ints) -> Ints:
    buckets: Ints = np.floor(np.log2(lengths) * _BUCKETS_PER_OCTAVE).astype(np.int64)
    return buckets


def _longest(bucket: int) -> int:
    """The most bytes that a text of the bucket can have."""
    return int(2 ** ((bucket + 1) / _BUCKETS_PER_OCTAVE))

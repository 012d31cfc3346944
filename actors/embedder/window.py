"""The open window: rows read but not yet sent, and how requests are cut from them.

A server that pads works on rows x longest text, so texts of similar length go together. What waits is taken a
generation at a time: sorted by length, cut into requests, which go out long and short interleaved. So whoever
watches a few requests sees the corpus, not its short texts for a while and then its long ones; and no row waits for
longer than its generation, whatever comes after it.

Of rows with the same text one waits here, for all of them: see `copies`.
"""

from __future__ import annotations

import asyncio
from itertools import count

import numpy as np
import numpy.typing as npt

from actors.embedder.batch import Batch, Mask, Places
from actors.embedder.copies import Copies, Tally
from actors.embedder.cuts import Cut, cut
from actors.embedder.open_part import OpenPart

BYTES_PER_TOKEN = 4.0  # of UTF-8, until the server's own count says better

_SMOOTHING = 0.05
_MOST_BYTES_PER_TOKEN = 16.0
_STALE = 0.05  # when a token is found to be longer or shorter by so much, what waits is cut anew

Ints = npt.NDArray[np.int64]


class Window:
    """Rows wait here until a request takes them. One event loop; nothing here blocks."""

    def __init__(self, copies: Copies | None = None) -> None:
        self._copies = copies or Copies()
        self._parts: dict[int, OpenPart] = {}  # by a number of our own
        self._number = count()
        self._coming: list[Ints] = []  # of the next generation; columns like those of `_sorted`
        self._coming_rows = 0
        self._sorted = np.empty((3, 0), np.int64)  # this generation: bytes of a text, number of its part, row in it
        self._cuts: list[Cut] = []  # of `_sorted`: what is left of it, the next request last
        self._left = 0  # rows in them
        self._cut_to = (0, 0, 0.0)  # rows, tokens, and bytes of a token when they were made
        self._turn = 0
        self._something = asyncio.Event()
        self._closed = False
        self.bytes_per_token = BYTES_PER_TOKEN

    @property
    def rows(self) -> int:
        """How many wait to be sent."""
        return self._left + self._coming_rows

    def add(self, part: OpenPart) -> None:
        """Open a part's sendable rows for sending. It may be complete by that."""
        rows = self._copies.add(part)
        if not len(rows):
            return
        number = next(self._number)
        self._coming.append(np.stack([part.lengths[rows], np.full(len(rows), number, np.int64), rows]))
        self._coming_rows += len(rows)
        self._parts[number] = part
        self._something.set()

    def give_back(self, batch: Batch) -> None:
        """What was taken and could not be sent waits again."""
        start = 0
        for each in batch.places:
            number = next(self._number)
            lengths = batch.lengths[start : start + len(each.rows)]
            self._coming.append(np.stack([lengths, np.full(len(each.rows), number, np.int64), each.rows]))
            self._parts[number] = each.part
            start += len(each.rows)
        self._coming_rows += len(batch)
        self._something.set()

    def take(self, most_rows: int, most_tokens: int, *, largest: bool = False) -> Batch | None:
        """Cut the next request: at most `most_rows` texts, with rows x longest within `most_tokens` tokens.

        A text that has more alone goes alone. None when nothing waits. `largest`: not the next but the largest that
        can be made of all that waits.
        """
        if not self.rows:
            return None
        if largest or not self._left or self._is_stale(most_rows, most_tokens):
            self._begin(most_rows, most_tokens)
        start, stop = self._cuts.pop(self._largest() if largest else -1)
        self._left -= stop - start
        if not self.rows and not self._closed:
            self._something.clear()
        return self._batch(self._sorted[:, start:stop])

    def tally(self) -> Tally:
        """A new account of what one server brings."""
        return self._copies.tally()

    def place(self, batch: Batch, vectors: npt.NDArray[np.float32], tally: Tally, cut: Mask | None) -> None:
        """What was taken has come back, float32[len(batch), dim]; `cut`: texts embedded in their beginning only."""
        self._copies.place(batch, vectors, tally, cut)

    def refuse(self, batch: Batch, reason: str, status: int | None, detail: str) -> None:
        """What was taken becomes rejects."""
        self._copies.refuse(batch, reason, status, detail)

    def forget(self, part: OpenPart) -> None:
        """A part that is complete is about to be closed."""
        self._copies.forget(part)

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

    def _begin(self, most_rows: int, most_tokens: int) -> None:
        """A new generation: all that waits, cut into requests, the longest texts first.

        What is left of the last one is too thin to make good requests of another size.
        """
        left = [self._sorted[:, start:stop] for start, stop in self._cuts]
        rows = np.concatenate([*left, *self._coming], axis=1)
        self._sorted = rows[:, np.argsort(rows[0], kind="stable")]
        self._coming, self._coming_rows, self._left = [], 0, rows.shape[1]
        self._parts = {int(number): self._parts[int(number)] for number in np.unique(rows[1])}

        self._cut_to = most_rows, most_tokens, self.bytes_per_token
        most_bytes = int(most_tokens * self.bytes_per_token)
        self._cuts = cut(self._sorted[0], most_rows, most_bytes, self._turn)
        self._turn += len(self._cuts)

    def _is_stale(self, most_rows: int, most_tokens: int) -> bool:
        """Whether the cuts were made for other bounds, or for tokens of another length."""
        rows, tokens, bytes_per_token = self._cut_to
        moved = abs(self.bytes_per_token - bytes_per_token) > _STALE * self.bytes_per_token
        return (rows, tokens) != (most_rows, most_tokens) or moved

    def _largest(self) -> int:
        """Which cut is the most work for a server that pads."""
        lengths = self._sorted[0]
        work = [(stop - start) * int(lengths[stop - 1]) for start, stop in self._cuts]
        return work.index(max(work))

    def _batch(self, chosen: Ints) -> Batch:
        """The request of these rows, part by part."""
        chosen = chosen[:, np.argsort(chosen[1], kind="stable")]
        lengths, numbers, rows = chosen
        edges = np.flatnonzero(np.diff(numbers)) + 1
        places = [
            Places(self._parts[int(numbers[start])], rows[start:stop])
            for start, stop in zip((0, *edges), (*edges, len(rows)), strict=True)
        ]
        return Batch([text for each in places for text in each.part.texts(each.rows)], tuple(places), lengths)

"""Which of the texts that wait the model reads next. Pure.

A batch is padded to its longest text, so that texts of like length belong together; and a batch of little costs
nearly as much as one that fills the device. `Waiting.next` weighs the one against the other, and never leaves the
oldest text behind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.serve.backends.base import Counts

_HEAD = 16  # batches that are looked at for texts of like length: more pad less and answer later
_START = 1 / 8  # of a full batch, in which it costs as much to begin one, whatever is in it
_STEPS = 32  # upper ends of a batch that are tried, and for each of them as many lower ones


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts `texts[i]` of requests `requests[i]`, int64[n] both, the shortest first.

    `tokens` are theirs, `padded` those that the device computes.
    """

    requests: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]
    tokens: int
    padded: int


class _Texts(NamedTuple):
    """In the order of their arrival."""

    requests: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]
    lengths: Counts

    def without(self, taken: npt.NDArray[np.int64]) -> _Texts:
        return _Texts(*(np.delete(column, taken) for column in self))


_NOTHING = _Texts(*(np.empty(0, np.int64) for _ in range(3)))


class Waiting:
    """Texts by request. With `merge` a batch may hold those of several requests, otherwise each stands alone."""

    def __init__(self, most_tokens: int, *, merge: bool) -> None:
        """`most_tokens` of a batch, padding included; a longer text makes a batch of its own."""
        self._most = most_tokens
        self._merge = merge
        self._head = _NOTHING
        self._later: deque[tuple[int, Counts]] = deque()

    def __len__(self) -> int:
        """Texts."""
        return len(self._head.lengths) + sum(len(lengths) for _, lengths in self._later)

    def add(self, request: int, lengths: Counts) -> None:
        """`lengths` of its texts, in tokens."""
        self._later.append((request, lengths))

    def drop(self, request: int) -> None:
        """What still waits of it."""
        self._head = self._head.without(np.flatnonzero(self._head.requests == request))
        self._later = deque(each for each in self._later if each[0] != request)

    def next(self) -> Batch | None:
        """The next batch, which then waits no longer; None when nothing waits."""
        self._fill_head()
        requests, texts, lengths = self._head
        if not len(lengths):
            return None
        order = np.argsort(lengths, kind="stable")
        by_length = np.maximum(1, lengths[order])
        if self._merge:
            first, last = self._weighed(by_length, int(np.flatnonzero(order == 0)[0]))
        else:
            last = len(order) - 1
            first = max(0, last + 1 - max(1, self._most // int(by_length[last])))
        taken = order[first : last + 1]
        self._head = self._head.without(taken)
        padded = len(taken) * int(by_length[last])
        return Batch(requests[taken], texts[taken], int(lengths[taken].sum()), padded)

    def _fill_head(self) -> None:
        """With the oldest requests: a few batches of them, or one request where they must stand alone."""
        enough = _HEAD * self._most if self._merge else 1
        columns, tokens = [self._head], int(self._head.lengths.sum()) if self._merge else len(self._head.lengths)
        while self._later and tokens < enough:
            request, lengths = self._later.popleft()
            count = len(lengths)
            columns.append(_Texts(np.full(count, request, np.int64), np.arange(count), lengths))
            tokens += max(1, int(lengths.sum()))
        if len(columns) > 1:
            self._head = _Texts(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))

    def _weighed(self, lengths: Counts, oldest: int) -> tuple[int, int]:
        """The run of `lengths`, ascending, around place `oldest` that gets the most tokens done in its time."""
        done = np.concatenate([[0], np.cumsum(lengths)])
        fitting = int(np.count_nonzero(_spans(lengths[oldest:]) <= self._most))
        most_last = oldest + max(0, fitting - 1)
        last = np.unique(np.linspace(oldest, most_last, _STEPS).astype(np.int64))
        least_first = np.clip(last + 1 - self._most // lengths[last], 0, oldest)
        first = (least_first + np.linspace(0, 1, _STEPS)[:, None] * (oldest - least_first)).astype(np.int64)
        padded = (last - first + 1) * lengths[last]
        worth = (done[last + 1] - done[first]) / (padded + _START * self._most)
        row, column = np.unravel_index(np.argmax(worth), worth.shape)
        return int(first[row, column]), int(last[column])


def _spans(lengths: Counts) -> Counts:
    """Padded tokens of the run from the first to each place."""
    return np.asarray((np.arange(len(lengths)) + 1) * lengths)

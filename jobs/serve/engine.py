"""The threads between the requests and the model: tokenizing, batches, and who gets which vectors."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TypeVar

import numpy as np

from jobs.serve.backends import Backend
from jobs.serve.backends.base import Encoded, Ids, Vectors, counts
from jobs.serve.batching import Batch, Waiting

T = TypeVar("T")

MOST_TEXTS = 1 << 17  # that are here at a time: 64 of the largest requests
_MOST_READERS = 4  # a tokenizer uses all cores by itself; these are for what goes on around it
_WRITERS = 2
_END_S = 5.0


class FullError(Exception):
    """As many texts wait as may."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the start, but for `waiting` and `running`, which are texts now.

    `padded_tokens` are what the model computed; `busy_s` is the time in which at least one batch was with it.
    """

    waiting: int = 0
    running: int = 0
    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0
    busy_s: float = 0.0


@dataclass(slots=True)
class _Asked:
    """A request under way: `vectors` is filled batch by batch until none is `left`."""

    rows: list[Ids]
    vectors: Vectors
    left: int
    answer: Future[Vectors]


class Engine:
    """One model for many requests. Threads begin with the first, and end with `close` or the process."""

    def __init__(self, backend: Backend, batch_tokens: int | None = None, *, merge: bool = True) -> None:
        """`batch_tokens` None: as many as the model says. `merge`: texts of several requests share a batch."""
        self._backend = backend
        self._waiting = Waiting(batch_tokens or backend.batch_tokens, merge=merge)
        self._asked: dict[int, _Asked] = {}
        self._numbers = itertools.count()
        self._changed = Condition()  # guards all that is here
        self._readers = ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1), "reader")
        self._writers = ThreadPoolExecutor(_WRITERS, "writer")  # no answer waits behind texts that have just come
        self._lanes: list[Thread] = []
        self._closed = False
        self._here = self._running = self._texts = self._tokens = self._padded = self._batches = 0
        self._busy_s, self._busy_lanes, self._busy_since = 0.0, 0, 0.0

    async def embed(self, texts: list[str]) -> Encoded:
        """Vectors and tokens of the texts, in order. Raises FullError, and whatever the model raises.

        When this is cancelled, what still waits of them is not computed.
        """
        with self._changed:
            if self._here and self._here + len(texts) > MOST_TEXTS:
                raise FullError
            self._here += len(texts)
        try:
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(self._readers, self._backend.tokenize, texts)
            number, answer = self._submit(rows)
            try:
                vectors = await asyncio.wrap_future(answer)
            except asyncio.CancelledError:
                self._forget(number)
                raise
        finally:
            with self._changed:
                self._here -= len(texts)
        return Encoded(vectors, counts(rows))

    async def beside(self, work: Callable[[], T]) -> T:
        """What is done to an answer and would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, work)

    def counters(self) -> Counters:
        with self._changed:
            under_way_s = time.monotonic() - self._busy_since if self._busy_lanes else 0.0
            return Counters(
                waiting=len(self._waiting),
                running=self._running,
                texts=self._texts,
                tokens=self._tokens,
                padded_tokens=self._padded,
                batches=self._batches,
                busy_s=self._busy_s + under_way_s,
            )

    def close(self) -> None:
        """Begins no further batch; what waits is never answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=False, cancel_futures=True)
        for lane in self._lanes:
            lane.join(_END_S)

    def _submit(self, rows: list[Ids]) -> tuple[int, Future[Vectors]]:
        asked = _Asked(rows, np.empty((len(rows), self._backend.dim), np.float32), len(rows), Future())
        asked.answer.set_running_or_notify_cancel()  # so that nobody can cancel it
        with self._changed:
            number = next(self._numbers)
            self._asked[number] = asked
            self._waiting.add(number, counts(rows))
            if not self._lanes and not self._closed:
                self._start()
            self._changed.notify_all()  # it may be more than one batch
        return number, asked.answer

    def _forget(self, number: int) -> None:
        with self._changed:
            self._waiting.drop(number)
            self._asked.pop(number, None)

    def _start(self) -> None:
        names = (f"lane-{number}" for number in range(self._backend.lanes))
        self._lanes = [Thread(target=self._run, name=name, daemon=True) for name in names]
        for lane in self._lanes:
            lane.start()

    def _run(self) -> None:
        """One lane: batch after batch. While this one waits for the device, another lane prepares the next."""
        while (taken := self._take()) is not None:
            batch, rows = taken
            try:
                vectors = self._backend.embed(rows)
            except Exception as error:
                self._fail(batch, error)
            else:
                self._deliver(batch, vectors)

    def _take(self) -> tuple[Batch, list[Ids]] | None:
        """The next batch, once there is one; None when this is closed."""
        with self._changed:
            while not self._closed:
                if batch := self._waiting.next():
                    if not self._busy_lanes:
                        self._busy_since = time.monotonic()
                    self._busy_lanes += 1
                    self._running += len(batch.texts)
                    pairs = zip(batch.requests.tolist(), batch.texts.tolist(), strict=True)
                    return batch, [self._asked[request].rows[text] for request, text in pairs]
                self._changed.wait()
        return None

    def _deliver(self, batch: Batch, vectors: Vectors) -> None:
        for request in np.unique(batch.requests).tolist():
            its = batch.requests == request
            if asked := self._asked.get(request):  # not one that has failed in another lane, or is not wanted now
                asked.vectors[batch.texts[its]] = vectors[its]
        with self._changed:
            self._done(batch)
            self._texts += len(batch.texts)
            self._tokens += batch.tokens
            self._padded += batch.padded
            self._batches += 1
            whole = [asked for request in self._left(batch) if (asked := self._asked.pop(request, None))]
        for asked in whole:
            asked.answer.set_result(asked.vectors)

    def _left(self, batch: Batch) -> list[int]:
        """Takes the batch off what is left of its requests; those of which nothing is left."""
        whole = []
        for request, count in zip(*np.unique(batch.requests, return_counts=True), strict=True):
            if asked := self._asked.get(int(request)):
                asked.left -= int(count)
                if not asked.left:
                    whole.append(int(request))
        return whole

    def _fail(self, batch: Batch, error: Exception) -> None:
        """All requests in the batch: which text it was, the model does not say."""
        with self._changed:
            self._done(batch)
            failed = []
            for request in np.unique(batch.requests).tolist():
                self._waiting.drop(request)
                if asked := self._asked.pop(request, None):
                    failed.append(asked)
        for asked in failed:
            asked.answer.set_exception(error)

    def _done(self, batch: Batch) -> None:
        self._running -= len(batch.texts)
        self._busy_lanes -= 1
        if not self._busy_lanes:
            self._busy_s += time.monotonic() - self._busy_since

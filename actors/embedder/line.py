"""The line to one server: when the next request may go out, what came of it, and whether the server works."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from actors.ceiling import Ceiling
from actors.embedder.answer_time import AnswerTime
from actors.embedder.batch import Batch, Mask
from actors.embedder.circuit import Circuit
from actors.embedder.client import EmbeddingClient, fatal
from actors.embedder.counted import Counted
from actors.embedder.dialects import Answer
from actors.embedder.faults import Fault, Kind
from actors.embedder.gauges.answers import Waits
from actors.embedder.pace import Pace
from actors.embedder.valve import Valve
from actors.embedder.window import Window
from actors.errors import UserError
from actors.messages import Completion, Failure, Order, QueueSample

_OWN_TEXT = "A short text that every embedding model can take."
_PROOF = Batch([_OWN_TEXT], (), np.array([len(_OWN_TEXT)]))
_MOST_EVENTS = 4000  # between two reports
_LOOK_S = 0.25  # for a new order, while waiting for a turn
_WRONG = 5  # sound but wrong answers to our own text in a row: it is another model now
_FITS = 0.95  # of what a server says would have fitted
NEARLY = 1.25  # of the budget: what is little larger goes as it is, the count of tokens being an estimate
_look_again = wait_random_exponential(multiplier=0.25, max=5)  # full jitter


class Recut(Exception):  # noqa: N818 (nothing went wrong)
    """A request that waited is larger than one may be by now."""


class Away(Exception):  # noqa: N818 (it is the server that is)
    """The server does not work, and another does: let that one have these texts."""


class Line:
    """Asks one server for vectors, under the driver's order. One event loop."""

    def __init__(
        self,
        client: EmbeddingClient,
        dim: int,
        patience_s: float,
        order: Order,
        window: Window,
        elsewhere: Callable[[], bool],
    ) -> None:
        """`elsewhere` says whether another server works."""
        self._client = client
        self._dim = dim
        self._patience_s = patience_s
        self._window = window
        self.elsewhere = elsewhere
        self.order = order
        self.obeyed_at = time.monotonic()
        self.change = asyncio.Event()  # something came back or was ordered
        self.requests = self.answers = self.retries = self.tokens = 0
        self.errors: Counter[str] = Counter()
        self._completions: deque[Completion] = deque(maxlen=_MOST_EVENTS)
        self._failures: deque[Failure] = deque(maxlen=_MOST_EVENTS)
        self._valve = Valve(order)
        self._pace = Pace()
        self._times = AnswerTime()
        self._counted = Counted()
        self._circuit = Circuit()
        self._gate = asyncio.Lock()  # one after the other
        self._sent = 0  # and not back
        self._sent_texts = 0  # in those
        self._waits = Waits()
        limits = client.endpoint.limits
        self._rows = Ceiling(limits.texts_per_request or math.inf)
        self._bytes = Ceiling(_FITS * (limits.bytes_per_request or math.inf))  # all texts of a request
        self._most_tokens = _FITS * (limits.tokens_per_request or math.inf)
        self._worked_rows = 1
        self._worked_bytes = 1  # padded, of a request that worked; what asked for the dimension was small
        self._proof: asyncio.Task[bool] | None = None
        self._seeking: asyncio.Task[None] | None = None
        self._looks = 0  # of our own text, that timed out
        self._wrong = 0  # answers to it in a row
        self._end: UserError | None = None

    @property
    def url(self) -> str:
        return self._client.endpoint.url

    @property
    def works(self) -> bool:
        """As far as we know."""
        return not self._circuit.is_open and not self._circuit.away_s(time.monotonic())

    def obey(self, order: Order) -> None:
        """From now on keep to `order`; what is in flight stays."""
        if order.version != self.order.version:
            self.obeyed_at = time.monotonic()
        self.order = order
        self._valve.obey(order, time.monotonic())
        self.change.set()

    def begin(self, inflight: int) -> None:
        """A batch begins beside so many others."""
        if not inflight:
            self._circuit.idle()
        self._valve.start(time.monotonic())

    def allowed(self) -> int:
        """Batches that may be under way now. Raises UserError when the job must end."""
        if self._end:
            raise self._end
        return 0 if self._circuit.is_open else self._valve.allowed(time.monotonic())

    async def changed(self) -> None:
        """Wait until something came back or was ordered, or the valve opens by itself."""
        self.change.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._valve.wait_s(time.monotonic())):
                await self.change.wait()

    def events(self) -> tuple[tuple[Completion, ...], tuple[Failure, ...]]:
        """Those since the last call."""
        events = tuple(self._completions), tuple(self._failures)
        self._completions.clear()
        self._failures.clear()
        return events

    def queue(self) -> QueueSample | None:
        """What of our own texts waits at the server, where its answers tell."""
        return self._waits.sample(time.monotonic())

    async def close(self) -> None:
        tasks = [task for task in (self._proof, self._seeking) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # what a request may be

    @property
    def batch_rows(self) -> int:
        """The most texts that a request may have."""
        self._rows.look(time.monotonic())
        return int(min(self.order.batch_rows, self._rows.now))

    def budget(self, tokens: int) -> int:
        """`tokens`, or what of them fits into a request."""
        return max(1, int(min(tokens, self._most_tokens, self._most_bytes() / self._window.bytes_per_token)))

    def pieces(self, batch: Batch) -> int:
        """Into how many requests this batch has to be cut by now."""
        order = self.order
        least = -(-len(batch) // self.batch_rows)
        if len(batch) == 1:
            return 1
        most_bytes = min(self._most_bytes(), self._most_tokens * self._window.bytes_per_token)
        least = min(len(batch), max(least, math.ceil(batch.bytes / most_bytes)))
        if batch.canary == order.canary and order.canary_tokens is not None:
            return least
        budget = NEARLY * order.batch_tokens
        return max(least, min(len(batch), math.ceil(self.in_tokens(batch.padded_bytes) / budget)))

    def _most_bytes(self) -> float:
        self._bytes.look(time.monotonic())
        return self._bytes.now

    def learn(self, batch: Batch, fault: Fault) -> None:
        """A limit of the server's own, which the requests that follow keep to."""
        now = time.monotonic()
        if fault.most_rows and fault.most_rows < len(batch):  # one that it keeps to is not why it was refused
            self._rows.refuse(fault.most_rows, now, named=True)
        if fault.kind is Kind.TOO_LARGE and len(batch) > 1:
            self._bytes.refuse(batch.bytes * (_FITS * fault.fits if fault.fits else 0.5), now)

    def cut(self, batch: Batch) -> Mask | None:
        """Which of its texts the server has embedded in their beginning only, by estimated tokens; None: none."""
        endpoint = self._client.endpoint
        if not endpoint.cuts or not endpoint.limits.tokens_per_text:
            return None
        return batch.lengths > endpoint.limits.tokens_per_text * self._window.bytes_per_token

    def out_of_memory(self, batch: Batch, fault: Fault) -> bool:
        """Whether the batch is larger than all that worked, so that nothing but its size need be the reason."""
        return fault.kind is Kind.BACKEND and len(batch) > 1 and batch.padded_bytes > self._worked_bytes

    def more_than_it_holds(self, batch: Batch, fault: Fault) -> bool:
        """Whether the batch may be refused for its texts alone, however little else the server has to do.

        As by vLLM with a limit on what is queued, and by TEI with fewer permits than a request has texts.
        """
        alone = self._sent == 0 and not fault.retry_after_s
        return fault.kind is Kind.OVERLOADED and alone and len(batch) > self._worked_rows

    def in_tokens(self, size_bytes: int) -> int:
        return max(1, round(size_bytes / self._window.bytes_per_token))

    # asking

    async def ask(self, batch: Batch, timeouts: int) -> Answer:
        """One answer, when it is this request's turn. `timeouts` is how often it has failed to come.

        Raises Fault, Recut, Away, and UserError when the job must end.
        """
        await self._turn(batch)
        try:
            return await self._exchange(batch, timeouts)
        finally:
            self._sent -= 1
            self._sent_texts -= len(batch)
            self.change.set()

    def too_late(self, fault: Fault) -> bool:
        """Whether the server has been away, or wants to be left alone, for longer than its patience."""
        return max(self._circuit.away_s(time.monotonic()), fault.retry_after_s or 0.0) > self._patience_s

    async def prove(self) -> bool:
        """Return when the server embeds a text of our own; True if it did so when first asked.

        Raises Away, and UserError when it cannot or is away too long.
        """
        if not self._circuit.is_open:
            self._proof = self._proof or asyncio.create_task(self._first_proof())
            if await asyncio.shield(self._proof):
                return True
        await self._working()
        return False

    def fatal(self, fault: Fault) -> UserError:
        """What ends the job."""
        return fatal(self._client.endpoint, fault)

    async def _turn(self, batch: Batch) -> None:
        """Wait until this request may be sent. Raises Recut when by then requests have to be smaller.

        In the order in which they ask, so that orders and refusals that come meanwhile hold for all that wait.
        """
        async with self._gate:
            while True:
                await self._working()
                now = time.monotonic()
                if wait_s := max(self._valve.shut_s(now), self._pace.wait_s(self.order, now)):
                    await asyncio.sleep(min(wait_s, _LOOK_S))
                elif self._sent >= max(1, self._valve.allowed(now)):
                    await self.changed()
                else:
                    break
            if self.pieces(batch) > 1:
                raise Recut
            self._pace.take(self.order, self.in_tokens(batch.bytes), now)
            self._sent += 1
            self._sent_texts += len(batch)

    async def _working(self) -> None:
        while self._circuit.is_open:
            if self._end:
                raise self._end
            if self.elsewhere():
                raise Away
            await self.changed()

    async def _exchange(self, batch: Batch, timeouts: int) -> Answer:
        self.requests += 1
        sent = time.monotonic()
        try:
            answer = await self._client.embed(batch.texts, self._dim, self._times.limit_s(timeouts))
        except Fault as fault:
            self._failed(batch, fault, sent)
            raise
        self._circuit.works()
        self._came(batch, answer, sent)
        return answer

    def _failed(self, batch: Batch, fault: Fault, sent: float) -> None:
        now = time.monotonic()
        self.errors[fault.kind] += 1
        self._failures.append(
            Failure(
                at=now,
                kind=str(fault.kind),
                rows=len(batch),
                tokens=self.in_tokens(batch.bytes),
                size=self.in_tokens(batch.padded_bytes),
                retry_after_s=fault.retry_after_s,
                most_rows=fault.most_rows,
                latency_s=now - sent,
                canary=batch.canary,
                status=fault.status,
            )
        )
        if fault.kind is Kind.OVERLOADED:
            self._valve.refuse(now, self._sent - 1, fault.retry_after_s)
        if fault.policy.away:
            self._circuit.fails(now)
        else:
            self._circuit.works()
        if fault.kind is Kind.STARTING:
            self._seek()

    def _came(self, batch: Batch, answer: Answer, sent: float) -> None:
        now = time.monotonic()
        self.answers += 1
        self._worked_rows = max(self._worked_rows, len(batch))
        self._worked_bytes = max(self._worked_bytes, batch.padded_bytes)
        if batch is not _PROOF:
            self._times.came(now - sent)
            self._waits.came(now, now - sent, self._sent_texts, answer.queued_s, answer.worked_s)
        self._rows.took(len(batch), now)
        self._bytes.took(batch.bytes, now)
        told = self._counted.believed(answer.tokens, batch)
        cut = self.cut(batch)
        if told and (cut is None or not cut.any()):  # of texts that were cut not all bytes were counted
            self._window.calibrate(batch.bytes, told)
        tokens = told or self.in_tokens(batch.bytes)
        self.tokens += tokens
        size = self.in_tokens(batch.padded_bytes)
        self._completions.append(Completion(now, now - sent, len(batch), tokens, size, batch.canary))

    # whether it works

    async def _first_proof(self) -> bool:
        try:
            await self._look()
        except Fault:
            self._seek()
            return False
        else:
            return True
        finally:
            self._proof = None

    def _seek(self) -> None:
        """Nothing goes out until the server embeds a text of our own."""
        if not self._circuit.is_open:
            self._circuit.open(time.monotonic())
            self._seeking = asyncio.create_task(self._sought())
            self.change.set()

    async def _sought(self) -> None:
        looks = AsyncRetrying(
            retry=retry_if_exception(self._may_return), wait=_pause, before_sleep=self._count_retry, reraise=True
        )
        try:
            await looks(self._look)
        except Fault as fault:
            self._end = self.fatal(fault)
        else:
            self._circuit.close()
        finally:
            self._looks = self._wrong = 0
            self.change.set()

    async def _look(self) -> None:
        await asyncio.sleep(self._valve.shut_s(time.monotonic()))
        try:
            await self._exchange(_PROOF, self._looks)
        except Fault as fault:
            self._looks += fault.kind is Kind.TIMEOUT
            self._wrong = self._wrong + 1 if fault.sound else 0
            raise

    def _may_return(self, error: BaseException) -> bool:
        """A server that is there and cannot take our text takes none."""
        if not isinstance(error, Fault) or not error.policy.away or self._wrong >= _WRONG:
            return False
        return self.elsewhere() or not self.too_late(error)

    def _count_retry(self, _: RetryCallState) -> None:
        self.retries += 1


def _pause(state: RetryCallState) -> float:
    fault = state.outcome.exception() if state.outcome else None
    wait_s = fault.retry_after_s if isinstance(fault, Fault) else None
    return max(_look_again(state), wait_s or 0.0)

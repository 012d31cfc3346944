"""The way to one endpoint: how many requests may be in flight, what became of them, and when to try again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from actors.embedder.batch import Batch
from actors.embedder.client import EmbeddingClient, fatal
from actors.embedder.dialects import Answer
from actors.embedder.faults import Fault, Kind, Then
from actors.embedder.pace import Pace
from actors.embedder.valve import Valve
from actors.embedder.window import Window
from actors.messages import Completion, EndpointReport, Failure, Order

_OWN_TEXT = "A short text that every embedding model can take."
_PROOF = Batch([_OWN_TEXT], (), np.array([len(_OWN_TEXT)]))
_MOST_EVENTS = 4000  # between two reports
_LOOK_S = 0.25  # for a new order, while waiting for a turn
NEARLY = 1.25  # of the budget: what is little larger goes as it is, the count of tokens being an estimate
_AWAY = (Kind.TRANSPORT, Kind.OVERLOADED, Kind.BACKEND)  # any other fault is the word of a server that is there
_backoff = wait_random_exponential(multiplier=0.25, max=10)  # full jitter


class _Recut(Exception):  # noqa: N818 (nothing went wrong)
    """A request that waited is larger than one may be by now."""


@dataclass(slots=True)
class _Ceiling:
    """What of one batch turned out to be too large for the server's memory, and so goes out no more."""

    bytes: float = math.inf


class Lane:
    """Delivers batches to one endpoint under the driver's order, and counts for the driver's report."""

    def __init__(self, client: EmbeddingClient, dim: int, patience_s: float, order: Order, window: Window) -> None:
        self._client = client
        self._window = window
        self._dim = dim
        self._patience_s = patience_s
        self._order = order
        self._valve = Valve(order)
        self._most_rows: int | None = None  # learnt from the server's refusals
        self._most_bytes = 1  # padded, of a request that worked; what asked for the dimension was small
        self._change = asyncio.Event()
        self._inflight = self._sent = self._requests = self._answers = self._retries = 0
        self.rows = 0  # delivered
        self._tokens = 0
        self._errors: Counter[str] = Counter()
        self._completions: deque[Completion] = deque(maxlen=_MOST_EVENTS)
        self._failures: deque[Failure] = deque(maxlen=_MOST_EVENTS)
        self._obeyed_at = time.monotonic()
        self._canary_sent = order.canary
        self._gate = asyncio.Lock()  # one after the other
        self._pace = Pace()
        self._away_since: float | None = None  # since when it has not worked

    def obey(self, order: Order) -> None:
        """From now on keep to `order`; what is in flight stays."""
        if order.version != self._order.version:
            self._obeyed_at = time.monotonic()
        self._order = order
        self._valve.obey(order, time.monotonic())
        self._change.set()

    @property
    def batch_rows(self) -> int:
        """The most texts that a request may have."""
        return min(self._order.batch_rows, self._most_rows or self._order.batch_rows)

    def take(self) -> Batch | None:
        """The next request's texts: the canary, if the order asks for one that was not sent yet."""
        order = self._order
        if order.canary_tokens is not None and order.canary != self._canary_sent:
            batch = self._window.take(self.batch_rows, order.canary_tokens, largest=True)
            if batch is not None:
                self._canary_sent = order.canary
                batch = replace(batch, canary=order.canary)
            return batch
        return self._window.take(self.batch_rows, self._order.batch_tokens)

    @property
    def limit(self) -> int:
        return self._order.limit

    async def room(self) -> None:
        """Wait until one more batch may be delivered."""
        while not self.has_room:
            await self._changed()

    @property
    def has_room(self) -> bool:
        return self._inflight < self._valve.allowed(time.monotonic())

    async def _changed(self) -> None:
        """Wait until something came back or was ordered, or the valve opens by itself."""
        self._change.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._valve.wait_s(time.monotonic())):
                await self._change.wait()

    def start(self) -> None:
        """Take a place in flight; `deliver` gives it back."""
        if not self._inflight:
            self._away_since = None  # time in which nobody asked says nothing
        self._inflight += 1
        self._valve.start(time.monotonic())

    async def deliver(self, batch: Batch) -> None:
        """Bring every text of `batch` to its vector or its reject. Raises UserError when the job must end."""
        try:
            await self._deliver(batch)
        finally:
            self._inflight -= 1
            self._change.set()

    def report(self) -> EndpointReport:
        """Counters since the start, and the events since the last call."""
        completions, failures = tuple(self._completions), tuple(self._failures)
        self._completions.clear()
        self._failures.clear()
        return EndpointReport(
            endpoint=self._client.endpoint.url,
            limit=self._order.limit,
            inflight=self._inflight,
            requests=self._requests,
            answers=self._answers,
            retries=self._retries,
            rows=self.rows,
            unique_texts=self.rows,
            tokens=self._tokens,
            errors=dict(self._errors),
            completions=completions,
            failures=failures,
            order=self._order.version,
            obeyed_at=self._obeyed_at,
        )

    async def _deliver(self, batch: Batch, ceiling: _Ceiling | None = None) -> None:
        ceiling = ceiling or _Ceiling()
        if len(batch) > 1 and batch.padded_bytes >= ceiling.bytes:
            await self._deliver_all(batch.halves(), ceiling)
            return
        try:
            answer = await self._answer(batch)
        except _Recut:
            await self._deliver_all(batch.pieces(-(-len(batch) // self._pieces(batch))), ceiling)
        except Fault as fault:
            await self._divide(batch, fault, ceiling)
        else:
            batch.place(answer.vectors)
            self.rows += len(batch)

    async def _deliver_all(self, pieces: Sequence[Batch], ceiling: _Ceiling) -> None:
        for piece in pieces:
            await self._deliver(piece, ceiling)

    async def _answer(self, batch: Batch) -> Answer:
        """The vectors, or the Fault that these texts cause at a server that works."""
        try:
            return await self._retrying(batch)
        except Fault as fault:
            if not (fault.policy.doubt or len(batch) == 1) or fault.kind is Kind.TOO_LARGE:
                raise
            if await self._prove(fault) and self._out_of_memory(batch, fault):
                raise
        return await self._retrying(batch)

    async def _divide(self, batch: Batch, fault: Fault, ceiling: _Ceiling) -> None:
        """Halve until the texts that the server cannot take stand alone."""
        if fault.policy.then is Then.STOP:
            raise fatal(self._client.endpoint, fault) from fault
        if len(batch) == 1:
            batch.refuse(str(fault.kind), fault.status, fault.detail)
            return
        if self._out_of_memory(batch, fault):
            ceiling.bytes = batch.padded_bytes
        # a limit that the batch keeps to is not why it was refused
        if fault.most_rows and fault.most_rows < len(batch):
            self._most_rows = fault.most_rows
            await self._deliver_all(batch.pieces(fault.most_rows), ceiling)
        else:
            await self._deliver_all(batch.halves(), ceiling)

    def _out_of_memory(self, batch: Batch, fault: Fault) -> bool:
        """Whether the batch is larger than all that worked, so that nothing but its size need be the reason."""
        return fault.kind is Kind.BACKEND and len(batch) > 1 and batch.padded_bytes > self._most_bytes

    async def _prove(self, accusing: Fault) -> bool:
        """Return when the server embeds a text of our own; UserError when it cannot, or is away too long.

        True if it did so when first asked.
        """
        errors = self._errors.total()
        while True:
            try:
                await self._retrying(_PROOF)
                return self._errors.total() == errors
            except Fault as fault:
                # a server that is there and cannot take this text takes none
                if fault.kind not in _AWAY or self._away_s() > self._patience_s:
                    raise fatal(self._client.endpoint, accusing) from fault
            await asyncio.sleep(1.0)

    async def _retrying(self, batch: Batch) -> Answer:
        """One answer, tried again as the policy of each fault says. UserError when the job must end."""
        failed: Counter[Kind] = Counter()

        def enough(state: RetryCallState) -> bool:
            fault = _fault(state)
            failed[fault.kind] += 1
            if self._out_of_memory(batch, fault):
                return True
            if max(self._away_s(), fault.retry_after_s or 0.0) > self._patience_s:
                return True
            attempts = fault.policy.attempts
            return attempts is not None and failed[fault.kind] >= attempts

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Fault),
            wait=_wait,
            stop=enough,
            before_sleep=self._count_retry,
            reraise=True,
        )
        try:
            return await attempts(self._once, batch)
        except Fault as fault:
            if fault.policy.then is Then.STOP:
                raise fatal(self._client.endpoint, fault) from fault
            raise

    async def _once(self, batch: Batch) -> Answer:
        await self._turn(batch)
        self._requests += 1
        sent = time.monotonic()
        try:
            answer = await self._client.embed(batch.texts, self._dim)
        except Fault as fault:
            self._errors[fault.kind] += 1
            self._note_failure(batch, fault, sent)
            if fault.kind is Kind.OVERLOADED:
                self._valve.refuse(time.monotonic(), self._sent - 1, fault.retry_after_s)
            if fault.kind in _AWAY:
                self._away_since = self._away_since or time.monotonic()
            else:
                self._away_since = None
            raise
        finally:
            self._sent -= 1
            self._change.set()
        self._away_since = None
        self._answers += 1
        self._most_bytes = max(self._most_bytes, batch.padded_bytes)
        self._note_completion(batch, answer, sent)
        return answer

    async def _turn(self, batch: Batch) -> None:
        """Wait until this request may be sent. Raises _Recut when by then requests have to be smaller.

        In the order in which they ask, so that orders and refusals that come meanwhile hold for all that wait.
        """
        async with self._gate:
            while True:
                now = time.monotonic()
                if wait_s := max(self._valve.shut_s(now), self._pace.wait_s(now)):
                    await asyncio.sleep(min(wait_s, _LOOK_S))
                elif self._sent >= max(1, self._valve.allowed(now)):
                    await self._changed()
                else:
                    break
            if self._pieces(batch) > 1:
                raise _Recut
            self._pace.take(self._order, self._in_tokens(batch.bytes), now)
            self._sent += 1

    def _pieces(self, batch: Batch) -> int:
        """Into how many requests this batch has to be cut by now."""
        order = self._order
        by_rows = -(-len(batch) // self.batch_rows)
        if len(batch) == 1 or (batch.canary == order.canary and order.canary_tokens is not None):
            return by_rows
        budget = NEARLY * order.batch_tokens
        return max(by_rows, min(len(batch), math.ceil(self._in_tokens(batch.padded_bytes) / budget)))

    def _note_completion(self, batch: Batch, answer: Answer, sent: float) -> None:
        if answer.tokens:
            self._window.calibrate(batch.bytes, answer.tokens)
        tokens = answer.tokens or self._in_tokens(batch.bytes)
        self._tokens += tokens
        now, size = time.monotonic(), self._in_tokens(batch.padded_bytes)
        self._completions.append(Completion(now, now - sent, len(batch), tokens, size, batch.canary))

    def _note_failure(self, batch: Batch, fault: Fault, sent: float) -> None:
        now, size = time.monotonic(), self._in_tokens(batch.padded_bytes)
        self._failures.append(
            Failure(
                at=now,
                kind=str(fault.kind),
                rows=len(batch),
                tokens=self._in_tokens(batch.bytes),
                size=size,
                retry_after_s=fault.retry_after_s,
                most_rows=fault.most_rows,
                latency_s=now - sent,
                canary=batch.canary,
                status=fault.status,
            )
        )

    def _in_tokens(self, size_bytes: int) -> int:
        return max(1, round(size_bytes / self._window.bytes_per_token))

    def _away_s(self) -> float:
        """For how long the server has not worked."""
        return time.monotonic() - self._away_since if self._away_since is not None else 0.0

    def _count_retry(self, _: RetryCallState) -> None:
        self._retries += 1


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Fault) else Fault(Kind.TRANSPORT, str(error))


def _wait(state: RetryCallState) -> float:
    return max(_backoff(state), _fault(state).retry_after_s or 0.0)

"""The way to one endpoint: how many requests may be in flight, what became of them, and when to try again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from actors.embedder.client import EmbeddingClient, fatal
from actors.embedder.dialects import Answer
from actors.embedder.faults import Fault, Kind, Then
from actors.embedder.window import Batch
from actors.messages import EndpointReport, Order

_PROOF_TEXT = "A short text that every embedding model can take."
_MOST_LATENCIES = 2000
_backoff = wait_random_exponential(multiplier=0.25, max=10)  # full jitter


class Lane:
    """Delivers batches to one endpoint under the driver's order, and counts for the driver's report."""

    def __init__(self, client: EmbeddingClient, dim: int, patience_s: float, order: Order) -> None:
        self._client = client
        self._dim = dim
        self._patience_s = patience_s
        self._order = order
        self._most_rows: int | None = None  # learnt from the server's refusals
        self._change = asyncio.Event()
        self._inflight = self._requests = self._answers = self._retries = 0
        self.rows = 0  # delivered
        self._tokens = 0
        self._errors: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_MOST_LATENCIES)

    def obey(self, order: Order) -> None:
        """From now on keep to `order`; what is in flight stays."""
        self._order = order
        self._change.set()

    @property
    def batch_rows(self) -> int:
        """The most texts that a request may have."""
        return min(self._order.batch_rows, self._most_rows or self._order.batch_rows)

    @property
    def batch_tokens(self) -> int:
        return self._order.batch_tokens

    @property
    def limit(self) -> int:
        return self._order.limit

    async def room(self) -> None:
        """Wait until one more batch may be delivered."""
        while self._inflight >= self._order.limit:
            self._change.clear()
            await self._change.wait()

    def start(self) -> None:
        """Take a place in flight; `deliver` gives it back."""
        self._inflight += 1

    async def deliver(self, batch: Batch) -> None:
        """Bring every text of `batch` to its vector or its reject. Raises UserError when the job must end."""
        try:
            await self._deliver(batch)
        finally:
            self._inflight -= 1
            self._change.set()

    def report(self) -> EndpointReport:
        """Counters since the start, and the latencies since the last call."""
        latencies = tuple(self._latencies)
        self._latencies.clear()
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
            latencies_s=latencies,
        )

    async def _deliver(self, batch: Batch) -> None:
        try:
            answer = await self._retrying(batch.texts)
        except Fault as fault:
            if fault.policy.then is Then.STOP:
                raise fatal(self._client.endpoint, fault) from fault
            await self._divide(batch, fault)
            return
        batch.place(answer.vectors)
        self.rows += len(batch)
        self._tokens += answer.tokens or sum(len(text.encode()) for text in batch.texts) // 4

    async def _divide(self, batch: Batch, fault: Fault) -> None:
        """Halve until the texts that the server cannot take stand alone."""
        if fault.most_rows:
            self._most_rows = fault.most_rows
        if len(batch) > 1:
            for half in batch.halves():
                await self._deliver(half)
            return
        if fault.policy.proof:
            await self._prove(fault)
        batch.refuse(str(fault.kind), fault.status, fault.detail)

    async def _prove(self, accusing: Fault) -> None:
        """Return when the server embeds a text of our own; UserError when it does not within the patience."""
        give_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                await self._retrying([_PROOF_TEXT])
                return
            except Fault as fault:
                if fault.policy.then is Then.STOP or time.monotonic() > give_up_at:
                    raise fatal(self._client.endpoint, accusing) from fault
            await asyncio.sleep(1.0)

    async def _retrying(self, texts: Sequence[str]) -> Answer:
        """One answer, tried again as the fault's policy says."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Fault),
            wait=_wait,
            stop=self._enough,
            before_sleep=self._count_retry,
            reraise=True,
        )
        return await attempts(self._once, texts)

    async def _once(self, texts: Sequence[str]) -> Answer:
        self._requests += 1
        sent = time.monotonic()
        try:
            answer = await self._client.embed(texts, self._dim)
        except Fault as fault:
            self._errors[fault.kind] += 1
            raise
        self._answers += 1
        self._latencies.append(time.monotonic() - sent)
        return answer

    def _enough(self, state: RetryCallState) -> bool:
        attempts = _fault(state).policy.attempts
        if attempts is not None:
            return state.attempt_number >= attempts
        return (state.seconds_since_start or 0) >= self._patience_s

    def _count_retry(self, _: RetryCallState) -> None:
        self._retries += 1


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Fault) else Fault(Kind.TRANSPORT, str(error))


def _wait(state: RetryCallState) -> float:
    return max(_backoff(state), _fault(state).retry_after_s or 0.0)

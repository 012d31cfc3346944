"""One batch on its way to one server: retried, halved, cut, until each text has its vector or its reject."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from actors.embedder.batch import Batch, Mask
from actors.embedder.copies import Tally
from actors.embedder.dialects import Answer
from actors.embedder.faults import Fault, Kind, Then
from actors.embedder.line import Away, Line, Recut
from actors.embedder.window import Window

_CUT, _ESTIMATED_CUT = 0.97, 0.9  # of what a text that is too long could be, as counted and as estimated
_BLIND_CUT = 0.75  # where nothing says what it could be
_REFUSED = 3  # times while nothing else was asked of the server: it may never take so many texts
_LEAST_CHARACTERS = 8  # a server to which such a text is too long takes none
_backoff = wait_random_exponential(multiplier=0.25, max=10)  # full jitter


class Delivery:
    """What one batch has taught on its way, and what became of it; see `faults.POLICIES`."""

    def __init__(self, line: Line, window: Window, tally: Tally, *, truncate: bool) -> None:
        """`truncate`: texts that the server finds too long are cut, not rejected."""
        self._tally = tally
        self._line = line
        self._window = window
        self._truncate = truncate
        self._ceiling = math.inf  # padded bytes that turned out too large for the server's memory
        self._timeouts = 0
        self._cleared: set[Kind] = set()  # of faults that are the texts': the server has proved itself

    async def deliver(self, batch: Batch) -> None:
        """Raises UserError when the job must end."""
        try:
            await self._deliver(batch)
        except Away:
            self._window.give_back(batch)

    async def _deliver(self, batch: Batch) -> None:
        if len(batch) > 1 and batch.padded_bytes >= self._ceiling:
            await self._deliver_all(batch.halves())
            return
        try:
            answer = await self._answer(batch)
        except Recut:
            await self._deliver_all(batch.pieces(-(-len(batch) // self._line.pieces(batch))))
        except Fault as fault:
            await self._divide(batch, fault)
        else:
            self._window.place(batch, answer.vectors, self._tally, self._cut(batch))

    def _cut(self, batch: Batch) -> Mask | None:
        return np.ones(len(batch), np.bool_) if batch.truncated else self._line.cut(batch)

    async def _deliver_all(self, pieces: Sequence[Batch]) -> None:
        for piece in pieces:
            await self.deliver(piece)

    async def _answer(self, batch: Batch) -> Answer:
        """The vectors, or the Fault that these texts cause at a server that works."""
        try:
            return await self._retrying(batch)
        except Fault as fault:
            if not self._in_doubt(batch, fault):
                raise
            if await self._line.prove():
                self._cleared.add(fault.kind)
                if self._line.out_of_memory(batch, fault):
                    raise
        return await self._retrying(batch)

    def _in_doubt(self, batch: Batch, fault: Fault) -> bool:
        """Whether it may be the server's fault and not the texts'."""
        if _is_limit(fault):
            return False
        if len(batch) == 1:
            return True
        return fault.policy.doubt and not fault.sound and fault.kind not in self._cleared

    async def _retrying(self, batch: Batch) -> Answer:
        """One answer, tried again as the policy of each fault says."""
        failed: Counter[Kind] = Counter()

        def enough(state: RetryCallState) -> bool:
            fault = _fault(state)
            failed[fault.kind] += 1
            attempts = 1 if len(batch) > 1 and fault.kind in self._cleared else fault.policy.attempts
            return (
                self._line.out_of_memory(batch, fault)
                or (failed[fault.kind] >= _REFUSED and self._line.more_than_it_holds(batch, fault))
                or self._line.too_late(fault)
                or (attempts is not None and failed[fault.kind] >= attempts)
            )

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Fault), wait=_wait, stop=enough, before_sleep=self._again, reraise=True
        )
        try:
            return await attempts(self._once, batch)
        except Fault as fault:
            if self._line.more_than_it_holds(batch, fault):
                if not await self._line.prove():
                    return await self._retrying(batch)
                half = len(batch) // 2
                raise Fault(Kind.TOO_MANY_INPUTS, fault.detail, fault.status, most_rows=half) from fault
            if fault.policy.then is Then.STOP:
                if fault.policy.away and self._line.elsewhere():
                    raise Away from fault
                raise self._line.fatal(fault) from fault
            raise

    async def _once(self, batch: Batch) -> Answer:
        try:
            return await self._line.ask(batch, self._timeouts)
        except Fault as fault:
            self._timeouts += fault.kind is Kind.TIMEOUT
            raise

    def _again(self, _: RetryCallState) -> None:
        self._line.retries += 1

    async def _divide(self, batch: Batch, fault: Fault) -> None:
        """Halve until the texts that the server cannot take stand alone."""
        self._line.learn(batch, fault)
        if len(batch) == 1:
            await self._single(batch, fault)
            return
        if self._line.out_of_memory(batch, fault):
            self._ceiling = batch.padded_bytes
        if fault.kind is Kind.TOO_LONG:
            batch = batch.by_length()  # those that are too long stand together
        pieces = self._line.pieces(batch)
        await self._deliver_all(batch.pieces(-(-len(batch) // pieces)) if pieces > 1 else batch.halves())

    async def _single(self, batch: Batch, fault: Fault) -> None:
        if fault.kind is Kind.TOO_LONG and self._truncate:
            shorter = batch.shortened(self._share(batch, fault))
            if len(shorter.texts[0]) >= _LEAST_CHARACTERS:
                await self.deliver(shorter)
                return
        if _is_limit(fault) and fault.kind not in self._cleared:
            await self._line.prove()  # else all that such a server gets would be rejected
            self._cleared.add(fault.kind)
        self._window.refuse(batch, str(fault.kind), fault.status, fault.detail)

    def _share(self, batch: Batch, fault: Fault) -> float:
        """How much of a text that is too long to keep."""
        if fault.fits:
            return _CUT * fault.fits
        if fault.most_tokens:
            estimated = _ESTIMATED_CUT * fault.most_tokens / self._line.in_tokens(batch.bytes)
            return min(_ESTIMATED_CUT, estimated)
        return _BLIND_CUT


def _is_limit(fault: Fault) -> bool:
    """Whether the server says that it is too much, and so that it is there."""
    return fault.kind in (Kind.TOO_MANY_INPUTS, Kind.TOO_LARGE, Kind.TOO_LONG)


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Fault) else Fault(Kind.TRANSPORT, str(error))


def _wait(state: RetryCallState) -> float:
    return max(_backoff(state), _fault(state).retry_after_s or 0.0)

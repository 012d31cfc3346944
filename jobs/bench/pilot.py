"""A brief look at how fast a server is, before it is decided how many rows a test embeds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import cycle
from time import monotonic

from actors.embedder.client import EmbeddingClient
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint
from jobs.bench.schedule import Pace
from jobs.probing import with_client

_LOOK_S = 1.5
_LEAST_REQUESTS = 2
_SLOW_S = 1.0  # for a request: many at once would take too long to say anything
_TOGETHER = 8  # requests in flight; what the tuner finds is more, as a rule
_MOST_REFUSED = 10  # one after the other


def look(endpoint: Endpoint, texts: Sequence[str], request_rows: int) -> Pace:
    """The pace of a server with these texts, `request_rows` in a request. Raises UserError that names it."""
    rows = min(request_rows, endpoint.limits.texts_per_request or request_rows, len(texts))

    async def ask(client: EmbeddingClient) -> Pace:
        pilot = _Pilot(client, texts, rows)
        alone = await pilot.rows_per_s(1)
        if rows / alone > _SLOW_S:
            return Pace(alone, alone)
        try:
            return Pace(alone, await pilot.rows_per_s(_TOGETHER))
        except Fault:
            return Pace(alone, alone)  # that many at once is too much for it: the job finds out what is not

    return asyncio.run(with_client(endpoint, ask))


class _Pilot:
    def __init__(self, client: EmbeddingClient, texts: Sequence[str], rows: int) -> None:
        self._client = client
        self._texts = cycle(texts)
        self._rows = rows

    async def rows_per_s(self, at_once: int) -> float:
        """With so many requests in flight, the first ones not counted: they may open connections. Raises Fault."""
        await asyncio.gather(*(self._request() for _ in range(at_once)))
        started = monotonic()
        rows = sum(await asyncio.gather(*(self._requests(started + _LOOK_S) for _ in range(at_once))))
        return rows / (monotonic() - started)

    async def _requests(self, end: float) -> int:
        rows = sent = 0
        while sent < _LEAST_REQUESTS or monotonic() < end:
            rows += await self._request()
            sent += 1
        return rows

    async def _request(self) -> int:
        """One request that is answered, smaller or with other texts if it must be; the rows that it had."""
        refused = 0
        while True:
            texts = [next(self._texts) for _ in range(self._rows)]
            try:
                await self._client.embed(texts, None)
            except Fault as fault:
                refused += 1
                if refused > _MOST_REFUSED:
                    raise
                if fault.kind in (Kind.TOO_MANY_INPUTS, Kind.TOO_LARGE):
                    self._rows = max(1, self._rows // 2)
                elif fault.kind not in (Kind.BAD_REQUEST, Kind.TOO_LONG):
                    raise
            else:
                return len(texts)

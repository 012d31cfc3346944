"""The way to one endpoint: which batches go there, how many at once, and the account of them for the driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from actors.embedder.batch import Batch
from actors.embedder.client import EmbeddingClient
from actors.embedder.delivery import Delivery
from actors.embedder.line import Line
from actors.embedder.window import Window
from actors.messages import EndpointReport, Order


def _nowhere() -> bool:
    return False


class Lane:
    """Delivers batches to one endpoint under the driver's order, and counts for the driver's report."""

    def __init__(
        self,
        client: EmbeddingClient,
        dim: int,
        patience_s: float,
        order: Order,
        window: Window,
        *,
        truncate: bool = True,
        elsewhere: Callable[[], bool] = _nowhere,
    ) -> None:
        """`truncate`: see `Delivery`; `elsewhere`: whether another endpoint works, to which texts can go back."""
        self._client = client
        self._window = window
        self._truncate = truncate
        self._line = Line(client, dim, patience_s, order, window, elsewhere)
        self._canary_sent = order.canary
        self._inflight = 0
        self._tally = window.tally()

    def obey(self, order: Order) -> None:
        """From now on keep to `order`; what is in flight stays."""
        self._line.obey(order)

    @property
    def batch_rows(self) -> int:
        """The most texts that a request may have."""
        return self._line.batch_rows

    @property
    def limit(self) -> int:
        return self._line.order.limit

    @property
    def rows(self) -> int:
        """Output rows that have their vector from here."""
        return self._tally.rows

    @property
    def works(self) -> bool:
        """Whether the server does, as far as we know."""
        return self._line.works

    def take(self) -> Batch | None:
        """The next request's texts: the canary, if the order asks for one that was not sent yet."""
        order = self._line.order
        if order.canary_tokens is not None and order.canary != self._canary_sent:
            batch = self._window.take(self.batch_rows, self._line.budget(order.canary_tokens), largest=True)
            if batch is not None:
                self._canary_sent = order.canary
                batch = replace(batch, canary=order.canary)
            return batch
        return self._window.take(self.batch_rows, self._line.budget(order.batch_tokens))

    async def room(self) -> None:
        """Wait until one more batch may be delivered. Raises UserError when the job must end."""
        while not self.has_room:
            await self._line.changed()

    @property
    def has_room(self) -> bool:
        return self._inflight < self._line.allowed()

    def start(self) -> None:
        """Take a place in flight; `deliver` gives it back."""
        self._line.begin(self._inflight)
        self._inflight += 1

    async def deliver(self, batch: Batch) -> None:
        """Bring every text of `batch` to its vector or its reject, or back into the window.

        Raises UserError when the job must end.
        """
        delivery = Delivery(self._line, self._window, self._tally, truncate=self._truncate)
        try:
            await delivery.deliver(batch)
        finally:
            self._inflight -= 1
            self._line.change.set()

    def report(self) -> EndpointReport:
        """Counters since the start, and the events since the last call."""
        line = self._line
        completions, failures = line.events()
        return EndpointReport(
            endpoint=line.url,
            limit=line.order.limit,
            inflight=self._inflight,
            requests=line.requests,
            answers=line.answers,
            retries=line.retries,
            rows=self._tally.rows,
            truncated=self._tally.truncated,
            unique_texts=self._tally.texts,
            tokens=line.tokens,
            errors=dict(line.errors),
            completions=completions,
            failures=failures,
            order=line.order.version,
            obeyed_at=line.obeyed_at,
            allowance=self._client.allowance,
            queue=line.queue(),
        )

    async def aclose(self) -> None:
        """Let the server be. The client stays open."""
        await self._line.close()

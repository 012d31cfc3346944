"""The queue as a Ray actor: a shell around the ledger that adds the clock and the output's listing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from actors.messages import Claim, Grant, QueueStatus
from actors.output.done import finished_parts
from actors.queue.ledger import Ledger
from actors.queue.plan import Plan


class QueueActor:
    """Rebuilds itself from plan and output folder, so a restart forgets nothing but who holds what.

    The first beat of each embedder tells it that again.
    """

    def __init__(self, plan: Plan, batch: int | None, out: str, sink: str) -> None:
        wanted = plan.parts_of_batch(batch)
        done = finished_parts(out, plan, wanted, sink)
        self._ledger = Ledger(plan, wanted, done.indexes, done.rejects)

    async def claim(self, claim: Claim) -> Grant:
        return self._ledger.claim(claim, time.monotonic())

    async def gone(self, embedders: Iterable[str]) -> None:
        """These are no more: what they hold goes back. One that is there after all says so with its next beat."""
        for name in embedders:
            self._ledger.release(name)

    async def status(self) -> QueueStatus:
        return replace(self._ledger.status(), silent=self._ledger.silent(time.monotonic()))

    async def cpu_seconds(self) -> float:
        """CPU time of this process so far."""
        return time.process_time()

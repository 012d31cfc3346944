"""An embedder as the queue sees it, without any embedding: it holds parts, writes them and says so."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from actors.messages import Claim, Grant, PartDone, SourceFile
from actors.queue.ledger import Ledger
from actors.queue.plan import Plan

ROWS = 10  # in a part


def plan_of(*parts: int, rows_per_batch: int = 1 << 40) -> Plan:
    """Files of so many parts each, the last one of each file a row short."""
    sources = [
        SourceFile(f"/in/{i}", f"{i}", "parquet", max(0, n * ROWS - 1), 1, "00") for i, n in enumerate(parts)
    ]
    return Plan(tuple(sources), ROWS, rows_per_batch)


def ledger_of(plan: Plan, done: Iterable[int] = (), wanted: range | None = None, rejects: int = 0) -> Ledger:
    return Ledger(plan, wanted or range(plan.parts), np.array(sorted(done), np.int64), rejects)


def part_done(plan: Plan, index: int, rejects: int = 0) -> PartDone:
    return PartDone(index, plan.part(index).rows, rejects)


def rejects_of(index: int) -> int:
    """How many rows of a part a server refuses, whoever sends them."""
    return index % 3


def lent(grant: Grant) -> list[int]:
    return [part.index for lease in grant.leases for part in lease.parts]


class Worker:
    """What it holds, what it has written, what it says."""

    def __init__(self, plan: Plan, name: str, life: int = 0) -> None:
        self.plan, self.name, self.life = plan, name, life
        self.sequence = 0
        self.held: set[int] = set()
        self.done: list[int] = []  # written, not acknowledged
        self.unanswered: Claim | None = None

    def claim(self, wanted_rows: int) -> Claim:
        """The claim it makes now; the one not yet answered, if there is one."""
        if self.unanswered is None:
            self.sequence += 1
            self.unanswered = Claim(
                embedder=self.name,
                incarnation=f"{self.name}/{self.life}",
                sequence=self.sequence,
                held=tuple(self.held),
                done=tuple(part_done(self.plan, index, rejects_of(index)) for index in self.done),
                wanted_rows=wanted_rows,
            )
        return self.unanswered

    def hear(self, grant: Grant) -> None:
        assert self.unanswered is not None
        self.done = self.done[len(self.unanswered.done) :]
        self.unanswered = None
        self.held.update(lent(grant))

    def ask(self, ledger: Ledger, now: float, wanted_rows: int = 1 << 30) -> list[int]:
        """Claim and hear the answer: the parts it was lent."""
        grant = ledger.claim(self.claim(wanted_rows), now)
        self.hear(grant)
        return lent(grant)

    def write(self, *parts: int) -> None:
        """Make these parts durable."""
        self.held.difference_update(parts)
        self.done += parts

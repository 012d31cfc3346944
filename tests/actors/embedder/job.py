"""A job without Ray: real input, a real ledger and controller, real parts; what the embedder's tests share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.driver.controller import Controller
from actors.driver.tuning import Bounds
from actors.driver.tuning.knee import Knee
from actors.embedder.embedder import Embedder
from actors.messages import Claim, Endpoint, Grant, JobSpec, Lease, Order, Orders, Report
from actors.output.done import finished_parts
from actors.output.folder import part_names
from actors.output.parts import PLAN_PROPERTY
from actors.queue.ledger import Ledger
from actors.queue.listing import list_input
from actors.queue.plan import Plan
from tests.servers.fixture import EmbeddingServer

DIM = 32
A_LONG_TIME_S = 20.0  # far more than any of it takes


class Queue:
    """The queue actor without Ray, and what was said to it."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self._plan, self._out = plan, out
        self.claims: list[Claim] = []
        self.leases: list[Lease] = []
        self.restart()

    def restart(self) -> None:
        done = finished_parts(str(self._out), self._plan, range(self._plan.parts))
        self.ledger = Ledger(self._plan, range(self._plan.parts), done.indexes, done.rejects)

    async def claim(self, claim: Claim) -> Grant:
        await asyncio.sleep(0)
        self.claims.append(claim)
        grant = self.ledger.claim(claim, time.monotonic())
        self.leases += grant.leases
        return grant


class Driver:
    """The driver actor without Ray: ticks with each report."""

    def __init__(self, urls: Sequence[str], bounds: Bounds) -> None:
        self._controller = Controller({url: Knee(bounds) for url in urls})
        self.reports: list[Report] = []

    async def report(self, report: Report) -> Orders | None:
        await asyncio.sleep(0)
        self.reports.append(report)
        now = time.monotonic()
        self._controller.tick(now)
        return self._controller.report(report, now)


class NoDriver(Driver):
    """One that cannot be reached."""

    def __init__(self) -> None:
        super().__init__([], Bounds())

    async def report(self, report: Report) -> Orders | None:
        return None


@dataclass
class Job:
    """One job's plan, output folder and the other two actors."""

    out: Path
    plan: Plan
    spec: JobSpec
    queue: Queue
    driver: Driver

    def embedder(self, name: str = "e") -> Embedder:
        return Embedder(name, "node", self.spec, self.queue, self.driver)

    async def run(self) -> None:
        await ends(self.embedder().run())

    @property
    def parts(self) -> set[str]:
        return part_names(self.out)

    def assert_whole(self) -> None:
        """Every part is there, nothing half-written is, and the queue knows."""
        assert len(self.parts) == self.plan.parts
        assert not list(self.out.rglob(".*"))
        assert self.queue.ledger.finished


def job_of(
    inputs: Sequence[Path],
    out: Path,
    servers: Sequence[EmbeddingServer],
    *,
    rows_per_part: int = 128,
    limit: int = 4,
    batch: int = 32,
    id_column: str | None = None,
    keep: Sequence[str] = (),
    dtype: str = "float32",
) -> Job:
    out.mkdir(exist_ok=True)
    listing = list_input([str(path) for path in inputs], out, "text", id_column, keep)
    plan = Plan(listing.files, rows_per_part, 1 << 40, None, listing.checkpoints)
    urls = [server.url for server in servers]
    spec = JobSpec(
        out=str(out),
        endpoints=tuple(Endpoint(url, "test-embedder", "openai", None) for url in urls),
        columns=listing.columns,
        dim=DIM,
        dtype=dtype,
        part_properties={PLAN_PROPERTY: "plan"},
        first_orders=Orders({url: Order(limit, batch, 1 << 17) for url in urls}),
        patience_s=5.0,
    )
    return Job(out, plan, spec, Queue(plan, out), Driver(urls, Bounds(limit=limit, batch_rows=batch)))


async def ends(*runs: Coroutine[None, None, None] | asyncio.Task[None]) -> None:
    """Wait for all of them. Not by asyncio.wait_for: cancelling a run that hangs may end it as if it had not."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    _, hanging = await asyncio.wait(tasks, timeout=A_LONG_TIME_S)
    for task in hanging:
        task.cancel()
    if hanging:
        await asyncio.wait(hanging)
        pytest.fail("it hangs")
    for task in tasks:
        await task


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not happen in time")


def reject_rows(out: Path) -> list[tuple[object, str, int | None]]:
    tables = [pq.read_table(path) for path in sorted((out / "_rejects").glob("part-*.parquet"))]
    return [(row["id"], row["reason"], row["status"]) for table in tables for row in table.to_pylist()]

"""The pull loop: claim leases, read them, keep every endpoint's requests in flight, write finished parts.

Several leases are open at once, so that the GPU does not drain at a lease's end. All of it runs on one event
loop; only reading and writing files happen in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from actors.corpus.storage import reason
from actors.embedder.batch import Batch
from actors.embedder.bodies import Bodies
from actors.embedder.client import EmbeddingClient
from actors.embedder.copies import Copies
from actors.embedder.gauges import Gauge, open_gauge
from actors.embedder.intake import Intake
from actors.embedder.kept import Kept
from actors.embedder.lane import Lane
from actors.embedder.machine import Machine
from actors.embedder.open_part import OpenPart
from actors.embedder.ports import DriverPort, QueuePort
from actors.embedder.window import Window
from actors.errors import UserError, first_of
from actors.messages import Claim, EndpointReport, Grant, JobSpec, Lease, PartDone, Report

BEAT_S = 1.0  # to the queue, at least; leases last many beats
REPORT_S = 0.25
STOP_S = 3.0  # for the queue's answer when the job is told to stop
MAX_OPEN_BYTES = 1 << 29  # of vectors in open parts, whatever the limits say
KEPT_BYTES = 1 << 26  # of vectors of texts that repeated, when their parts are closed
WRITERS = 2  # while one waits for the disk, the other encodes
WINDOW_REQUESTS = 128  # rows to have waiting, in requests: padding is 1 to 2 % then, and 4 % with a quarter
WINDOW_PARTS, WINDOW_S = 8, 10.0  # but not more than these, since a kill costs what is half done,
WINDOW_ROWS = 4096  # or than this where they are not known yet
LEAST_INFLIGHT, LEAST_S = 2, 1.0  # yet never less than these: a lease takes a round trip and a read to come
RATE_SMOOTHING = 0.2  # weight of the newest report's time, and
ROWS_SMOOTHING = 0.02  # of the last request, which may be of short texts or long ones


class Embedder:
    """Everything an embedder does, without Ray. `run` returns when the job is done or `stop` was called."""

    def __init__(self, name: str, node: str, spec: JobSpec, queue: QueuePort, driver: DriverPort) -> None:
        self._name = name
        self._node = node
        self._incarnation = uuid.uuid4().hex
        self._spec = spec
        self._queue = queue
        self._driver = driver
        self._sequence = 0
        self._held: set[int] = set()  # parts lent to us and not yet durable
        self._done: list[PartDone] = []  # durable, not yet acknowledged
        self._open: dict[int, OpenPart] = {}
        self._open_rows = 0  # of parts being embedded or written
        self._row_bytes = spec.dim * (2 if spec.dtype == "float16" else 4)
        self._request_rows = 256.0  # texts in a request, on average; none sent yet
        self._part_rows = 0  # of the last part read; none yet: ask for little
        self._busy: set[asyncio.Task[None]] = set()  # requests and writes
        self._unread_rows = 0  # of leases not yet read
        self._rows_per_s = 0.0  # delivered
        self._starved_s = 0.0
        self._write_wait_s = 0.0
        self._writing = 0  # parts
        self._began, self._thread_s = time.monotonic(), time.thread_time()
        self._machine = Machine()
        self._gauge: Gauge | None = None
        self._stopping = False
        self._asking: asyncio.Timeout | None = None  # while a claim is on its way
        self._window = Window(Copies(Kept(KEPT_BYTES, spec.dim, spec.dtype)))
        self._leases: asyncio.Queue[Lease] = asyncio.Queue()
        self._wake = asyncio.Event()  # something to tell the queue
        self._less_open = asyncio.Event()

    async def run(self) -> None:
        """Work until every part is durable. Raises UserError when the job must end."""
        self._intake = Intake(self._spec)
        self._writer = ThreadPoolExecutor(WRITERS, "write")
        bodies = Bodies()
        clients = [EmbeddingClient(endpoint, bodies) for endpoint in self._spec.endpoints]
        self._lanes = {client.endpoint.url: self._lane(client) for client in clients}
        self._gauge = open_gauge(self._spec.endpoints)
        try:
            await self._work()
        finally:
            if self._gauge:
                self._gauge.close()
            for lane in self._lanes.values():
                await lane.aclose()
            for client in clients:
                await client.aclose()
            self._intake.close()
            self._writer.shutdown(cancel_futures=True)

    async def stop(self) -> None:
        """Send nothing more; let `run` return within a few seconds, with whatever parts are complete written."""
        self._stopping = True
        self._wake.set()
        if self._asking:  # the queue may be away
            self._asking.reschedule(asyncio.get_running_loop().time() + STOP_S)

    def _lane(self, client: EmbeddingClient) -> Lane:
        order = self._spec.first_orders.by_endpoint[client.endpoint.url]
        url, spec = client.endpoint.url, self._spec

        def elsewhere() -> bool:
            return any(lane.works for other, lane in self._lanes.items() if other != url)

        return Lane(
            client, spec.dim, spec.patience_s, order, self._window, truncate=spec.truncate, elsewhere=elsewhere
        )

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                helpers = [group.create_task(each) for each in (self._report(), self._read())]
                helpers += [group.create_task(self._feed(lane)) for lane in self._lanes.values()]
                await self._beat()
                self._window.close()
                for task in (*helpers, *self._busy):
                    task.cancel()
        except* UserError as errors:
            raise first_of(errors) from None
        await self._driver.report(self._summarise())

    async def _beat(self) -> None:
        """Claim until the queue says that all is durable, or until stopped and drained."""
        while True:
            stopping = self._stopping
            if stopping:
                self._window.close()
                await self._drain()
            try:
                grant = await self._claim()
            except TimeoutError:  # told to stop while the queue is away
                grant = Grant((), finished=False)
            if grant.finished or stopping:
                return
            for lease in grant.leases:
                self._held.update(part.index for part in lease.parts)
                self._unread_rows += sum(part.rows for part in lease.parts)
                self._leases.put_nowait(lease)
            await asyncio.sleep(grant.soon_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._wake.wait()

    async def _drain(self) -> None:
        """Let requests come in for a while, and the parts that they complete be written, as long as it takes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._spec.drain_s):
                while self._busy:
                    await asyncio.wait(self._busy, return_when=asyncio.FIRST_COMPLETED)
        while self._writing and self._busy:
            await asyncio.wait(self._busy, return_when=asyncio.FIRST_COMPLETED)

    async def _claim(self) -> Grant:
        self._wake.clear()
        self._sequence += 1
        done = tuple(self._done)
        claim = Claim(
            embedder=self._name,
            incarnation=self._incarnation,
            sequence=self._sequence,
            held=() if self._stopping else tuple(self._held),  # what is not done by now, others do
            done=done,
            wanted_rows=0 if self._stopping else max(0, self._window_goal() - self._rows_ahead()),
        )
        try:
            async with asyncio.timeout(STOP_S if self._stopping else None) as self._asking:
                grant = await self._queue.claim(claim)
        finally:
            self._asking = None
        del self._done[: len(done)]
        return grant

    def _rows_ahead(self) -> int:
        return self._window.rows + self._unread_rows

    def _window_goal(self) -> int:
        """Rows to have ready: enough that no endpoint waits for a lease, no more than memory allows."""
        if not any(lane.limit for lane in self._lanes.values()):
            return 0
        request = min(self._request_rows, max(lane.batch_rows for lane in self._lanes.values()))
        inflight = request * sum(lane.limit for lane in self._lanes.values())
        recent = max(WINDOW_S * self._rows_per_s, WINDOW_ROWS)
        well_filled = min(WINDOW_REQUESTS * request, WINDOW_PARTS * self._part_rows, recent)
        goal = max(well_filled, LEAST_INFLIGHT * inflight, LEAST_S * self._rows_per_s)
        return max(1, min(int(goal), MAX_OPEN_BYTES // self._row_bytes))

    async def _read(self) -> None:
        """Open leased parts one after the other, as long as memory allows."""
        while True:
            lease = await self._leases.get()
            async for part in self._intake.parts(lease):
                self._unread_rows -= part.part.rows
                self._part_rows = part.part.rows
                self._open[part.part.index] = part
                self._open_rows += part.part.rows
                self._window.add(part)
                self._finish(part)
                self._ask_if_low()
                await self._memory()

    async def _memory(self) -> None:
        while self._open_rows * self._row_bytes > MAX_OPEN_BYTES:
            self._less_open.clear()
            since, for_disk = time.monotonic(), self._writing > 0
            await self._less_open.wait()
            if for_disk:
                self._write_wait_s += time.monotonic() - since

    async def _feed(self, lane: Lane) -> None:
        """Keep one endpoint as full as its order says."""
        while True:
            await lane.room()
            idle_since, reading = time.monotonic(), self._unread_rows > 0
            if not await self._window.something():
                return
            if reading:
                self._starved_s += time.monotonic() - idle_since
            # another order may have come while this waited
            batch = lane.take() if lane.has_room else None
            if batch is None:
                continue
            lane.start()
            self._request_rows += ROWS_SMOOTHING * (len(batch) - self._request_rows)
            self._begin(self._deliver(lane, batch))
            self._ask_if_low()

    def _ask_if_low(self) -> None:
        if self._rows_ahead() < self._window_goal() // 2:
            self._wake.set()

    async def _deliver(self, lane: Lane, batch: Batch) -> None:
        await lane.deliver(batch)
        for part in list(self._open.values()):  # copies of these texts may have completed any of them
            self._finish(part)

    def _finish(self, part: OpenPart) -> None:
        """Begin to write the part if it is complete, once."""
        if part.complete and part.part.index in self._open:
            del self._open[part.part.index]
            self._writing += 1
            self._begin(self._write(part))

    async def _write(self, part: OpenPart) -> None:
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._writer, part.write, self._spec, self._incarnation)
        except OSError as error:
            raise UserError(f"cannot write {self._spec.out}/{part.part.name}: {reason(error)}", 1) from error
        self._window.forget(part)
        part.close()
        self._writing -= 1
        self._open_rows -= part.part.rows
        self._less_open.set()
        self._held.discard(done.index)
        self._done.append(done)
        self._wake.set()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _report(self) -> None:
        """Tell the driver, and do as it says; when it is away, go on as before."""
        while True:
            report, reported = self._summarise(), time.monotonic()
            orders = await self._driver.report(report)
            for url, order in (orders.by_endpoint if orders else {}).items():
                self._lanes[url].obey(order)
            self._ask_if_low()  # with more in flight, more has to wait
            await asyncio.sleep(orders.report_s if orders else REPORT_S)
            rows = self._delivered() - report.rows_reused - sum(each.rows for each in report.endpoints)
            rate = rows / (time.monotonic() - reported)
            self._rows_per_s += RATE_SMOOTHING * (rate - self._rows_per_s)

    def _delivered(self) -> int:
        return self._intake.rows_reused + sum(lane.rows for lane in self._lanes.values())

    def _summarise(self) -> Report:
        return Report(
            embedder=self._name,
            incarnation=self._incarnation,
            node=self._node,
            endpoints=tuple(self._gauged(lane.report()) for lane in self._lanes.values()),
            window_rows=self._window.rows,
            starved_s=self._starved_s,
            cpu_s=time.process_time(),
            write_wait_s=self._write_wait_s,
            uptime_s=time.monotonic() - self._began,
            sent_at=time.monotonic(),
            loop_s=time.thread_time() - self._thread_s,
            idle_cores=self._machine.idle_cores(),
            leaving=self._stopping,
            rows_reused=self._intake.rows_reused,
            open_rows=self._open_rows - sum(part.pending for part in self._open.values()),
        )

    def _gauged(self, report: EndpointReport) -> EndpointReport:
        if self._gauge is None:
            return report
        url = report.endpoint
        return replace(report, gpu=self._gauge.gpu(url), queue=self._gauge.queue(url) or report.queue)

"""How a job grows: 1, 2, 4, 8 embedders on 1 to 4 machines, against a simulated server that grows with them.

    python scripts/bench_scale.py [--sizes 1 2 4 8] [--seconds 30] [--json FILE]

Real `ray start` machines (all on this one), a real `rayembed run`. A GPU of the simulated server embeds 80 texts a
second, so slowly that all of it runs on two cores, and there is one for each embedder. Rows a second are the
server's own count, once the limit is reached. What queue and driver cost is their processes' CPU time over the
calls that Ray has counted in them. At last both are asked by 1,000 embedders as fast as they can answer; from that
follows on paper at what size either would fill its core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.update(RAY_AUTH_MODE="disabled", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")  # Ray reads them when it is imported

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from actors.driver.actor import DriverActor  # noqa: E402
from actors.driver.controller import REPORT_S, REPORTS_PER_S  # noqa: E402
from actors.driver.telemetry import stamp  # noqa: E402
from actors.driver.tuning import Bounds  # noqa: E402
from actors.messages import Claim, Completion, Endpoint, EndpointReport, PartDone, Report, SourceFile  # noqa: E402
from actors.queue.actor import QueueActor  # noqa: E402
from actors.queue.ledger import CLAIMS_PER_S  # noqa: E402
from actors.queue.plan import Plan  # noqa: E402
from tests.jobs.cluster.machines import Machine, Machines, machines  # noqa: E402
from tests.servers.gpu.fixture import GpuServer  # noqa: E402

MACHINES = {1: 1, 2: 1, 4: 2, 8: 4}
BATCH_ROWS, BATCH_S = 64, 0.8
IN_FLIGHT = 3  # requests for each GPU
RAMP_S = 6.0
COUNTS_S = 1.0  # between two of Ray's own counts of calls
POOL, CALLERS, AT_ONCE = 1000, 2, 32  # embedders, processes that speak for them, calls under way of each of these
FLOOD_S = 8.0
PART_ROWS = 1 << 16
URL = "http://one"
AT_THE_HEAD: dict[str, Any] = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}


@dataclass(frozen=True, slots=True)
class Use:
    """What an actor was asked a second, and the share of a core that it took."""

    calls_per_s: float
    cores: float


@dataclass(frozen=True, slots=True)
class Row:
    embedders: int
    machines: int
    rows_per_s: float
    capacity: float
    queue: Use
    driver: Use


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--sizes", type=int, nargs="+", choices=list(MACHINES), default=list(MACHINES))
    arguments.add_argument("--seconds", type=float, default=30.0, help="of steady state, at each size")
    arguments.add_argument("--json", type=Path, help="also write the table here")
    given = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    rows: list[Row] = []
    try:
        with machines(RAY_event_stats_print_interval_ms=f"{1000 * COUNTS_S:.0f}") as cluster:
            head = cluster.head("--num-cpus=0", "--include-dashboard=false")
            print(HEAD, flush=True)
            for size in sorted(given.sizes):
                while len(cluster.all) - 1 < MACHINES[size]:
                    cluster.join(f"127.0.0.{len(cluster.all) + 1}")
                rows.append(measure(cluster, head, folder, size, given.seconds))
                show(rows[-1], rows[0])
            on_paper(rows, cluster.address, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


HEAD = (
    f"{'embedders':>9s} {'machines':>8s} {'rows/s':>8s} {'of capacity':>11s} {'efficiency':>10s} "
    f"{'queue: calls/s, cores':>22s} {'driver: calls/s, cores':>23s}"
)


def show(row: Row, first: Row) -> None:
    efficiency = row.rows_per_s / first.rows_per_s * first.embedders / row.embedders
    uses = [f"{use.calls_per_s:8.1f} {use.cores:7.1%}" for use in (row.queue, row.driver)]
    print(
        f"{row.embedders:9d} {row.machines:8d} {row.rows_per_s:8,.0f} {row.rows_per_s / row.capacity:11.1%} "
        f"{efficiency:10.3f} {uses[0]:>22s} {uses[1]:>23s}",
        flush=True,
    )


def measure(cluster: Machines, head: Machine, folder: Path, size: int, seconds: float) -> Row:
    """One job of so many embedders, its steady state, stopped then."""
    profile = {"fixed_s": BATCH_S, "per_token_s": 0.0, "noise": 0.0, "replicas": size, "dim": 256}
    capacity = size * BATCH_ROWS / BATCH_S
    corpus = write_corpus(folder / f"{size}.parquet", int(capacity * (seconds + RAMP_S) * 1.5))
    with GpuServer("one", **profile) as server, job(cluster, corpus, server.url, size):
        while server.stats()["texts"] < 4 * BATCH_ROWS * size:
            time.sleep(0.1)
        time.sleep(RAMP_S)
        actors = {kind: Actor(head, kind, cluster.folder) for kind in ("QueueActor", "DriverActor")}
        server.reset()
        time.sleep(seconds)
        stats = server.stats()
        queue, driver = (each.use() for each in actors.values())
    return Row(size, MACHINES[size], stats["texts"] / stats["wall_s"], capacity, queue, driver)


def write_corpus(path: Path, rows: int) -> Path:
    pq.write_table(pa.table({"text": [f"{i:08d} of some words" for i in range(rows)]}), path)
    return path


@contextmanager
def job(cluster: Machines, corpus: Path, url: str, size: int) -> Iterator[None]:
    options = ["--actors", size, "--concurrency", IN_FLIGHT * size, "--batch-size", BATCH_ROWS]
    command = [sys.executable, "-m", "jobs", "run", corpus, "-o", corpus.with_suffix(".out"), "--endpoint", url]
    process = subprocess.Popen(
        [str(word) for word in [*command, *options]],
        cwd=corpus.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": cluster.address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


class Actor:
    """The process of an actor on the head, from now on."""

    def __init__(self, head: Machine, kind: str, logs: Path) -> None:
        self._process = head.process(kind)
        (self._log,) = logs.glob(f"session_2*/logs/python-core-worker-*_{self._process.pid}.log")
        self._cpu_s, self._calls, self._since = self._spent_s(), self._counted(), time.monotonic()

    def use(self) -> Use:
        seconds = time.monotonic() - self._since
        return Use((self._counted() - self._calls) / seconds, (self._spent_s() - self._cpu_s) / seconds)

    def _spent_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _counted(self) -> int:
        """As of Ray's last count."""
        counts = re.findall(r"CoreWorkerService\.grpc_server\.PushTask - (\d+) total", self._log.read_text())
        return int(counts[-1]) if counts else 0


def on_paper(rows: list[Row], address: str, folder: Path) -> None:
    """At what size either actor would be full."""
    import ray

    first, last = rows[0], rows[-1]
    more = max(1, last.embedders - first.embedders)
    claims = (last.queue.calls_per_s - first.queue.calls_per_s) / more or 1.0
    reports = (last.driver.calls_per_s - first.driver.calls_per_s) / more or 1 / REPORT_S
    print(f"\nEach embedder more: {claims:.1f} claims/s, {reports:.1f} reports/s.")
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        for name, actor, callers, limit in (_queue(folder), _driver(folder)):
            began_s, began = ray.get(actor.cpu_seconds.remote()), time.monotonic()
            calls = sum(ray.get([each.flood.remote(FLOOD_S) for each in callers]))
            cpu_s, seconds = ray.get(actor.cpu_seconds.remote()) - began_s, time.monotonic() - began
            cost_s = cpu_s / calls
            print(
                f"{name}: {calls / seconds:,.0f} calls/s of {POOL:,} embedders as fast as they could, "
                f"{1e6 * cost_s:.0f} us of CPU each, so a core takes {1 / cost_s:,.0f} calls/s; "
                f"asked no more than {limit:,} times a second in any pool, {limit * cost_s:.0%} of a core"
            )
    finally:
        ray.shutdown()


class Claimers:
    """A share of the pool, each of which claims, works no time at all and claims again."""

    def __init__(self, queue: Any, first: int) -> None:
        self._queue = queue
        self._held: dict[int, list[int]] = {i: [] for i in range(first, first + POOL // CALLERS)}
        self._rounds = 0

    async def flood(self, seconds: float) -> int:
        """How many calls were answered."""
        until = time.monotonic() + seconds
        shares = [list(self._held)[i::AT_ONCE] for i in range(AT_ONCE)]
        return sum(await asyncio.gather(*(self._ask(share, until) for share in shares)))

    async def _ask(self, share: list[int], until: float) -> int:
        calls = 0
        while True:
            for me in share:
                if time.monotonic() > until:
                    return calls
                held, calls = self._held[me], calls + 1
                done = tuple(PartDone(index, PART_ROWS, 0) for index in held[:1])
                held[:1] = []
                wanted = max(0, 4 - len(held)) * PART_ROWS
                claim = Claim(f"{me}", "1", calls, tuple(held), done, wanted)
                grant = await self._queue.claim.remote(claim)
                held += [part.index for lease in grant.leases for part in lease.parts]


class Reporters:
    """A share of the pool, each of which has four answers to tell of."""

    def __init__(self, driver: Any, first: int) -> None:
        self._driver = driver
        self._names = range(first, first + POOL // CALLERS)

    async def flood(self, seconds: float) -> int:
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(self._tell(self._names[i::AT_ONCE], until) for i in range(AT_ONCE))))

    async def _tell(self, share: Sequence[int], until: float) -> int:
        answers = (Completion(0.0, 0.2, 64, 6400, 6400),) * 4
        calls = turn = 0
        while True:
            turn += 1
            counts = dict.fromkeys(("requests", "answers", "rows", "unique_texts", "tokens"), 4 * turn)
            endpoint = EndpointReport(URL, 4, 4, retries=0, completions=answers, **counts)
            for me in share:
                if time.monotonic() > until:
                    return calls
                calls += 1
                times = {"starved_s": 0.0, "cpu_s": 1.0 * turn, "write_wait_s": 0.0, "uptime_s": 1.0 * turn}
                report = Report(f"{me:05d}", "1", f"{me // 4}", (endpoint,), window_rows=1, **times)
                await self._driver.report.remote(report)


def _queue(out: Path) -> tuple[str, Any, list[Any], int]:
    import ray

    files = tuple(SourceFile(f"/in/{i}", f"{i}", "parquet", 1 << 24, 1, "0") for i in range(10 * POOL))
    actor = (
        ray.remote(QueueActor)
        .options(**AT_THE_HEAD)
        .remote(Plan(files, PART_ROWS, 1 << 60), None, str(out), "parquet")
    )
    return "queue", actor, _callers(Claimers, actor), CLAIMS_PER_S


def _driver(out: Path) -> tuple[str, Any, list[Any], int]:
    import ray

    one = Endpoint(URL, "m", "openai", None)
    bounds = {URL: Bounds(limit=4 * POOL, batch_rows=64)}
    actor = ray.remote(DriverActor).options(**AT_THE_HEAD).remote((one,), bounds, str(out), stamp())
    return "driver", actor, _callers(Reporters, actor), REPORTS_PER_S


def _callers(kind: type, actor: Any) -> list[Any]:
    import ray

    firsts = range(0, POOL, POOL // CALLERS)
    return [ray.remote(kind).options(num_cpus=0.01).remote(actor, first) for first in firsts]


if __name__ == "__main__":
    main()

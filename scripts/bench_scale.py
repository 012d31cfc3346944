"""How a job grows: 1, 2, 4, 8 embedders on 1 to 4 machines, against a simulated server that grows with them.

    python scripts/bench_scale.py [--sizes 1 2 4 8] [--seconds 20] [--json FILE]

Real `ray start` machines (all on this one), a real `rayembed run`. A GPU of the simulated server embeds 320 texts a
second, so slowly that all of it runs on two cores, and there is one for each embedder. Rows a second are the
server's own count, once the limit is reached. What queue and driver cost is their processes' CPU time over the
calls that Ray has counted in them; from that, and from a ledger and a controller of 1,000 and 4,000 embedders in
this process, follows on paper at what size either would fill its core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from actors.driver.controller import REPORT_S, REPORTS_PER_S, Controller  # noqa: E402
from actors.driver.tuning import DEFAULT_POLICY, POLICIES, Bounds  # noqa: E402
from actors.messages import Claim, Completion, EndpointReport, PartDone, Report, SourceFile  # noqa: E402
from actors.queue.ledger import Ledger  # noqa: E402
from actors.queue.plan import Plan  # noqa: E402
from tests.jobs.cluster.machines import Machine, Machines, machines  # noqa: E402
from tests.servers.gpu.fixture import GpuServer  # noqa: E402

MACHINES = {1: 1, 2: 1, 4: 2, 8: 4}
BATCH_ROWS, BATCH_S = 64, 0.2
IN_FLIGHT = 3  # requests for each GPU
RAMP_S = 6.0
COUNTS_S = 1.0  # between two of Ray's own counts of calls
CALLS_PER_S = 2500  # that an asynchronous actor takes, whatever it does
POOLS = 1000, 4000


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
    arguments.add_argument("--seconds", type=float, default=20.0, help="of steady state, at each size")
    arguments.add_argument("--json", type=Path, help="also write the table here")
    given = arguments.parse_args()
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
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
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    on_paper(rows[-1])
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
        while server.stats()["texts"] < 20 * BATCH_ROWS * size:
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
        times: psutil._common.pcputimes = self._process.cpu_times()
        return float(times.user + times.system)

    def _counted(self) -> int:
        """As of Ray's last count."""
        counts = re.findall(r"CoreWorkerService\.grpc_server\.PushTask - (\d+) total", self._log.read_text())
        return int(counts[-1]) if counts else 0


def on_paper(largest: Row) -> None:
    """At what size either actor would be full, from what a call costs."""
    print("\nOn paper. CPU of one call, Ray's part included, in ms:", end=" ")
    costs = {name: 1000 * use.cores / max(1e-9, use.calls_per_s) for name, use in _uses(largest)}
    print(", ".join(f"{name} {cost:.2f}" for name, cost in costs.items()))
    for pool in POOLS:
        claim_us, report_us, tick_ms = claim_cost_us(pool), *report_cost_us(pool)
        reports = min(pool / REPORT_S, REPORTS_PER_S)
        claims = pool * largest.queue.calls_per_s / largest.embedders
        print(
            f"{pool:,} embedders: a claim {claim_us:.0f} us, a report {report_us:.0f} us, a tick {tick_ms:.1f} ms; "
            f"{claims:,.0f} claims/s and {reports:,.0f} reports/s of {CALLS_PER_S:,} that an actor takes"
        )


def _uses(row: Row) -> list[tuple[str, Use]]:
    return [("queue", row.queue), ("driver", row.driver)]


def _cost_us(call: Callable[[int], object], times: int) -> float:
    before = time.process_time()
    for i in range(times):
        call(i)
    return (time.process_time() - before) / times * 1e6


def claim_cost_us(pool: int) -> float:
    """Of the ledger alone, each embedder with a few parts of 65,536 rows, one of which is done with each."""
    files = tuple(SourceFile(f"/in/{i}", f"{i}", "parquet", 1 << 20, 1, "0") for i in range(pool))
    plan = Plan(files, 1 << 16, 1 << 60)
    ledger = Ledger(plan, range(plan.parts), np.empty(0, np.int64), 0)
    held: list[list[int]] = [[] for _ in range(pool)]

    def claim(i: int) -> None:
        me = i % pool
        done = tuple(PartDone(index, 1 << 16, 0) for index in held[me][:1])
        del held[me][:1]
        wanted = max(0, 4 - len(held[me])) << 16
        grant = ledger.claim(Claim(f"{me}", "1", i // pool, tuple(held[me]), done, wanted), i / pool)
        held[me] += [part.index for lease in grant.leases for part in lease.parts]

    return _cost_us(claim, 5 * pool)


def report_cost_us(pool: int) -> tuple[float, float]:
    """Of the controller alone: a report in us, a tick in ms; each embedder has had four answers since its last."""
    controller = Controller({"http://one": POLICIES[DEFAULT_POLICY](Bounds(limit=4 * pool, batch_rows=64), None)})
    since_last = (Completion(0.0, 0.2, 64, 6400, 6400),) * 4
    spent: list[float] = []

    def report(i: int) -> None:
        me, turn = i % pool, i // pool
        counts = dict.fromkeys(("requests", "answers", "rows", "unique_texts", "tokens"), 4 * turn)
        endpoint = EndpointReport("http://one", 4, 4, retries=0, completions=since_last, **counts)
        fields = {
            "window_rows": 1,
            "starved_s": 0.0,
            "cpu_s": 1.0 * turn,
            "write_wait_s": 0.0,
            "uptime_s": 1.0 * turn,
        }
        controller.report(Report(f"{me:05d}", "1", f"{me // 4}", (endpoint,), **fields), i / REPORTS_PER_S)

    for turn in range(4):
        spent.append(_cost_us(lambda i, turn=turn: report(turn * pool + i), pool))
        tick = _cost_us(lambda _, turn=turn: controller.tick((turn + 1) * pool / REPORTS_PER_S), 1)
    return min(spent), tick / 1000


if __name__ == "__main__":
    main()

"""What a plan of a great corpus costs: time and memory to make it, leases a second, and a resume of many parts.

    python scripts/bench_plan.py [--files 1,10,100,1000] [--parts 1000000] [--ray]

Each file is a real Parquet file of a million rows (of one text, so that it is small) in ten row groups, with eight
columns, read as `rayembed run` reads it: by its footer. Each size runs in a process of its own, whose peak memory
is told against one that plans nothing. With --ray the queue is also asked as embedders ask it, as an actor.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from actors.messages import Claim, PartDone, SourceFile  # noqa: E402
from actors.output.done import finished_parts  # noqa: E402
from actors.output.sinks import PARQUET  # noqa: E402
from actors.queue.ledger import Ledger  # noqa: E402
from actors.queue.listing import list_input  # noqa: E402
from actors.queue.plan import Plan, choose_rows_per_part  # noqa: E402
from jobs import ray_setup  # noqa: E402

FILE_ROWS = 1_000_000
DIM = 768
EMBEDDERS, ASKED_ROWS = 100, 65_536


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--files", default="1,10,100,1000", help="how many, of a million rows each")
    arguments.add_argument("--parts", type=int, default=1_000_000, help="that are there when a job resumes")
    arguments.add_argument("--ray", action="store_true", help="ask the real queue too, over Ray")
    arguments.add_argument("--plan", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    given = arguments.parse_args()
    if given.plan:
        plan_one(given.plan)
        return
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        one = Path(folder) / "one.parquet"
        column = pa.array(["a text"]).take(pa.array(np.zeros(FILE_ROWS, np.int32)))
        names = ["text", *(f"another_{i}" for i in range(7))]
        pq.write_table(pa.table([column] * len(names), names), one, row_group_size=FILE_ROWS // 10)
        print("| rows | files | parts | CPU s to plan | MB more than nothing |")
        print("| --- | --- | --- | --- | --- |")
        for files in map(int, given.files.split(",")):
            corpus = Path(folder) / str(files)
            corpus.mkdir()
            for i in range(files):
                (corpus / f"{i:05d}.parquet").hardlink_to(one)
            subprocess.run([sys.executable, __file__, "--plan", str(corpus)], check=True)
        resume(given.parts, Path(folder) / "out")
    leases()
    if given.ray:
        asyncio.run(leases_over_ray())


def plan_one(corpus: Path) -> None:
    before, began = _peak_mb(), time.process_time()
    listing = list_input([str(corpus)], Path("out"), "text", None, [])
    rows = sum(file.rows for file in listing.files)
    plan = Plan(listing.files, choose_rows_per_part(rows, 4 * DIM), FILE_ROWS, checkpoints=listing.checkpoints)
    Ledger(plan, range(plan.parts), np.zeros(0, np.int64), 0)
    seconds = time.process_time() - began
    print(
        f"| {rows:.0e} | {len(plan.files):,} | {plan.parts:,} | {seconds:.2f} | {_peak_mb() - before:.0f} |",
        flush=True,
    )


def leases() -> None:
    """Many embedders that claim in turn, and finish all they get."""
    plan = made_up(1000)
    ledger = Ledger(plan, range(plan.parts), np.zeros(0, np.int64), 0)
    done: list[tuple[PartDone, ...]] = [() for _ in range(EMBEDDERS)]
    began, lent, claims, now = time.process_time(), 0, 0, 0.0
    while not ledger.finished:
        who, now, claims = claims % EMBEDDERS, now + 0.001, claims + 1
        grant = ledger.claim(Claim(f"{who}", "", claims, (), done[who], ASKED_ROWS), now)
        parts = [part for lease in grant.leases for part in lease.parts]
        done[who] = tuple(PartDone(part.index, part.rows, 0) for part in parts)
        lent += len(grant.leases)
    seconds = time.process_time() - began
    a_second = f"{lent / seconds:,.0f} a CPU second ({claims / seconds:,.0f} claims)"
    print(f"\nleases: {a_second}, {plan.parts:,} parts in {seconds:.1f} CPU s")


async def leases_over_ray() -> None:
    """The queue's actor, asked for little and for much by as many as ask the ledger above, from this process."""
    ray_setup.connect(None)
    import ray

    from actors.queue.actor import QueueActor

    plan = made_up(1000)
    print("\n| rows a claim, over Ray | leases a second | claims a second | leases a CPU second of the queue |")
    print("| --- | --- | --- | --- |")
    for asked_rows in (ASKED_ROWS, 16 * ASKED_ROWS):
        with tempfile.TemporaryDirectory(prefix="plan-") as out:
            queue = ray.remote(QueueActor).options(num_cpus=0).remote(plan, None, out, PARQUET)
            before_s = await queue.cpu_seconds.remote()
            began = time.monotonic()
            counts = await asyncio.gather(*(claiming(queue, f"{who}", asked_rows) for who in range(EMBEDDERS)))
            seconds, cpu_s = time.monotonic() - began, await queue.cpu_seconds.remote() - before_s
            ray.kill(queue)
        lent, claims = (sum(each) for each in zip(*counts, strict=True))
        print(
            f"| {asked_rows:,} | {lent / seconds:,.0f} | {claims / seconds:,.0f} | {lent / cpu_s:,.0f} |",
            flush=True,
        )
    ray.shutdown()


async def claiming(queue: Any, name: str, rows: int) -> tuple[int, int]:
    """Claim, finish at once and claim again until all is done: leases and claims."""
    done: tuple[PartDone, ...] = ()
    lent = 0
    for sequence in itertools.count(1):
        grant = await queue.claim.remote(Claim(name, "", sequence, (), done, rows))
        done = tuple(PartDone(part.index, part.rows, 0) for lease in grant.leases for part in lease.parts)
        lent += len(grant.leases)
        if grant.finished:
            break
    return lent, sequence


def resume(parts: int, out: Path) -> None:
    """A folder that holds every other part of so many."""
    plan = made_up(-(-2 * parts * choose_rows_per_part(10**9, 4 * DIM) // FILE_ROWS))
    out.mkdir()
    for index in range(0, 2 * parts, 2):
        (out / plan.part(index).name).touch()
    began = time.process_time()
    there = finished_parts(str(out), plan, range(plan.parts))
    seconds = time.process_time() - began
    print(f"\nresume: {len(there.indexes):,} parts of {plan.parts:,} found in {seconds:.1f} CPU s")


def made_up(files: int) -> Plan:
    """Of files that are not there."""
    sources = tuple(SourceFile("", f"{i}", "parquet", FILE_ROWS, 0, "") for i in range(files))
    return Plan(sources, choose_rows_per_part(10**9, 4 * DIM), FILE_ROWS)


def _peak_mb() -> float:
    """Of this program: what a process took before it became this one does not count, as it does in getrusage."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()

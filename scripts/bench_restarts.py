"""What the death of each process of a job costs in rows that the server embeds again.

    python scripts/bench_restarts.py [--rows 60000] [--kinds embedder,job …] [--seed N]

One real `rayembed run` for each kind of process against the simulated GPU server (no faults): when half of the rows
are answered, that process is killed, once; a job that ends is started again. Then every row of the output is
checked, and what was sent is counted against what was needed. `nothing` is the same job left in peace.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import pyarrow.parquet as pq  # noqa: E402
from chaos_job import Job, end_all, kill, mark  # noqa: E402
from chaos_rows import DIM, POISON, Rows  # noqa: E402

from tests.servers.gpu.fixture import GpuServer  # noqa: E402

KINDS = ("nothing", "embedder", "queue", "driver", "server", "job", "job with Ray", "SIGTERM", "raylet")
PROFILE, SPEED = "slow", 0.5
LOOK_S = 0.05
FINISHED = (0, 3)


@dataclass(frozen=True, slots=True)
class Cost:
    """`durable` rows were in parts when it was struck, `answered` by the server; `again` were embedded twice."""

    kind: str
    answered: int
    durable: int
    again: int
    starts: int
    seconds: float
    right: bool


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--rows", type=int, default=60_000)
    arguments.add_argument("--kinds", default=",".join(KINDS), help="of the processes, with commas")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mark()
    folder = Path(tempfile.mkdtemp(prefix="restarts-"))
    try:
        rows = Rows(given.rows, given.seed)
        rows.write(folder / "in")
        costs = [struck(kind, rows, given.rows, folder / str(i)) for i, kind in enumerate(given.kinds.split(","))]
    finally:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)
    show(costs, given.rows)
    return int(not all(cost.right for cost in costs))


def struck(kind: str, rows: Rows, count: int, folder: Path) -> Cost:
    """One job, hurt once when half of its rows are answered."""
    folder.mkdir()
    out = folder / "out"
    server = GpuServer(PROFILE, speed=SPEED, poison=POISON, dim=DIM)
    began, starts, answered, durable, before = time.monotonic(), 0, 0, 0, 0
    code: int | None = None
    while code not in FINISHED:
        starts += 1
        job = Job([str(folder.parent / "in"), "-o", str(out), "--endpoint", server.url], folder / f"{starts}.log")
        while (code := job.exit_code) is None:
            time.sleep(LOOK_S)
            if not answered and server.stats()["texts"] >= count // 2:
                answered, durable = server.stats()["texts"], rows_in(out)
                if kind == "server":
                    before = answered
                    server = restarted(server)
                else:
                    strike(kind, job)
    sent = before + server.stats()["texts"]
    server.stop()
    found = rows.check(out)
    print(f"{kind}: {found}", flush=True)
    return Cost(kind, answered, durable, sent - found.rows, starts, time.monotonic() - began, found.right)


def strike(kind: str, job: Job) -> None:
    match kind:
        case "nothing":
            pass
        case "job":
            job.kill()
        case "job with Ray":
            job.kill_with_ray()
        case "SIGTERM":
            job.terminate()
        case _:
            for victim in job.processes(kind)[:1]:
                kill(victim)


def restarted(server: GpuServer) -> GpuServer:
    """Killed, and another at its port."""
    server.kill()
    return GpuServer(PROFILE, port=server.port, speed=SPEED, poison=POISON, dim=DIM)


def rows_in(out: Path) -> int:
    """In parts that are durable."""
    return sum(pq.read_metadata(part).num_rows for part in out.glob("part-*.parquet"))


def show(costs: list[Cost], rows: int) -> None:
    peace = next((cost.again for cost in costs if cost.kind == "nothing"), 0)
    print("\n| killed at half | answered | durable | rows sent again | of all rows | starts | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for cost in costs:
        again = cost.again - peace
        cells = (cost.kind, f"{cost.answered:,}", f"{cost.durable:,}", f"{again:,}", f"{again / rows:.1%}")
        print(f"| {' | '.join(cells)} | {cost.starts} | {cost.seconds:.0f} |")


if __name__ == "__main__":
    sys.exit(main())

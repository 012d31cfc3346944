"""What the client costs when the server costs nothing: CPU seconds per million rows, memory, start-up.

    python scripts/bench_client.py [--dims 768] [--wires base64 float] [--rows 60000 240000] [--batch 512]
                                   [--peers] [--memory] [--json FILE]

Runs the real `rayembed run`, Parquet to Parquet, own Ray, at two sizes, against a server in a process of its own
that answers from vectors encoded beforehand. The slope between the two sizes is what a row costs: start-up is in
neither. CPU time is that of all processes that the job started, as the system counts it, and not the server's.
`--memory` shows whether the larger run takes more and more of it, e.g. `--dims 384 --rows 100000 3000000 --memory`.
`--peers` puts other clients beside it, on the same texts and server, see `bench_client_peers.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.servers.gpu.fixture import GpuServer  # noqa: E402

FREE = {"fixed_s": 0.0, "per_token_s": 0.0, "knee_tokens": 0, "noise": 0.0, "padded": False, "gauge": False}
TEXT_BYTES = 400
SAMPLE_S = 0.1
STEPS = 10  # of the larger run, after each of which its memory is shown
ROLES = {  # what a process is, by a word of its command line
    "EmbedderActor": "embedder",
    "QueueActor": "queue",
    "DriverActor": "driver",
    "raylet": "raylet",
    "gcs_server": "gcs",
}


@dataclass(slots=True)
class Usage:
    """CPU seconds of each process with its role, and the most memory (resident, MiB) of each role, of a tree.

    `line` is the memory of all processes of each role, by how many texts were answered then.
    """

    cpu_s: dict[int, tuple[str, float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    line: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def look(self, root: psutil.Process, texts: int) -> None:
        now: dict[str, float] = {}
        for each in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error), each.oneshot():
                times = each.cpu_times()
                role = "job" if each.pid == root.pid else _role(" ".join(each.cmdline()))
                if role == "other" and each.pid in self.cpu_s:
                    role = self.cpu_s[each.pid][0]  # an actor that has ended
                self.cpu_s[each.pid] = role, times.user + times.system
                now[role] = now.get(role, 0.0) + each.memory_info().rss / 2**20
        self.memory |= {role: max(self.memory.get(role, 0.0), size) for role, size in now.items()}
        self.line.append((texts, now))

    def by_role(self) -> dict[str, float]:
        """CPU seconds."""
        sums: dict[str, float] = {}
        for role, seconds in self.cpu_s.values():
            sums[role] = sums.get(role, 0.0) + seconds
        return sums


def _role(command: str) -> str:
    return next((role for word, role in ROLES.items() if word in command), "other")


@dataclass(frozen=True, slots=True)
class Run:
    """`start_s`: from the launch to the first texts at the server; `seconds`: from there to the last text."""

    rows: int
    cpu_s: dict[str, float]
    seconds: float
    start_s: float
    memory: dict[str, float]
    line: list[tuple[int, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Cell:
    """`cpu_s` (of each role) and `wall_s` are per million rows, from the slope."""

    client: str
    dim: int
    wire: str
    cpu_s: dict[str, float]
    wall_s: float
    start_s: float
    memory: dict[str, float]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--dims", type=int, nargs="+", default=[768])
    arguments.add_argument("--wires", nargs="+", choices=["base64", "float"], default=["base64", "float"])
    arguments.add_argument("--rows", type=int, nargs=2, default=[60_000, 240_000])
    arguments.add_argument("--batch", default="512", help="texts in a request, or auto")
    arguments.add_argument("--peers", action="store_true", help="other clients beside it, in a new venv")
    arguments.add_argument("--memory", action="store_true", help="also how it goes over the larger run")
    arguments.add_argument("--json", type=Path, help="also write the cells here")
    given = arguments.parse_args()
    cells = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = [write_corpus(folder / f"{rows}.parquet", rows) for rows in given.rows]
        ours = [sys.executable, "-m", "jobs", "run", "{corpus}", "-o", "{out}", "--endpoint", "{url}"]
        clients = {"rayembed": [*ours, "--batch-size", given.batch]}
        if given.peers:
            from bench_client_peers import commands

            clients |= commands(folder)
        print(
            f"{'client':20s} {'dim':>5s} {'wire':7s} {'CPU s/M':>8s} {'rows/s':>8s} {'start':>6s}  s/M / peak MiB"
        )
        for dim in given.dims:
            for wire in given.wires:
                for client, command in clients.items():
                    runs = [measure(command, corpus, folder, dim, wire) for corpus in corpora]
                    cells.append(slope(client, dim, wire, runs))
                    show(cells[-1])
                    if given.memory:
                        show_line(runs[-1])
    if given.json:
        given.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1))


def write_corpus(path: Path, rows: int) -> Path:
    """Distinct texts of TEXT_BYTES."""
    filling = " lorem ipsum dolor sit amet" * (TEXT_BYTES // 26 + 1)
    pq.write_table(pa.table({"text": [f"{i:09d}{filling}"[:TEXT_BYTES] for i in range(rows)]}), path)
    return path


def measure(command: Sequence[str], corpus: Path, folder: Path, dim: int, wire: str) -> Run:
    """One run of a client, watched until it ends. The words {corpus}, {out}, {url} and {dim} are filled in."""
    rows = pq.read_metadata(corpus).num_rows
    with GpuServer("one", dim=dim, floats=wire == "float", **FREE) as server, tempfile.TemporaryDirectory() as out:
        words = {"corpus": str(corpus), "out": f"{out}/out", "url": server.url, "dim": str(dim)}
        log = folder / "log"
        began = time.monotonic()
        with log.open("w") as output:
            job = psutil.Popen(
                [word.format(**words) for word in command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        usage = Usage()
        first = last = None
        while job.poll() is None:
            texts = server.stats()["texts"]
            usage.look(job, texts)
            now = time.monotonic()
            first = now if first is None and texts > 100 else first
            last = now if last is None and texts >= rows else last
            time.sleep(SAMPLE_S)
        if job.returncode or first is None or last is None:
            raise SystemExit(f"{command[:4]} failed with {job.returncode}:\n{log.read_text()[-2000:]}")
    return Run(rows, usage.by_role(), last - first, first - began, usage.memory, usage.line)


def slope(client: str, dim: int, wire: str, runs: Sequence[Run]) -> Cell:
    small, large = runs
    millions = (large.rows - small.rows) / 1e6
    return Cell(
        client=client,
        dim=dim,
        wire=wire,
        cpu_s={role: (used - small.cpu_s.get(role, 0.0)) / millions for role, used in large.cpu_s.items()},
        wall_s=(large.seconds - small.seconds) / millions,
        start_s=min(small.start_s, large.start_s),
        memory=large.memory,
    )


def show(cell: Cell) -> None:
    roles = sorted(cell.memory, key=lambda role: -cell.cpu_s.get(role, 0.0))
    memory = ", ".join(f"{role} {cell.cpu_s.get(role, 0.0):.1f} / {cell.memory[role]:.0f}" for role in roles)
    print(
        f"{cell.client:20s} {cell.dim:5d} {cell.wire:7s} {sum(cell.cpu_s.values()):8.1f} {1e6 / cell.wall_s:8.0f} "
        f"{cell.start_s:5.1f}s  {memory}",
        flush=True,
    )


def show_line(run: Run) -> None:
    """Resident MiB of each role, when each tenth of the rows was answered."""
    roles = sorted(run.memory, key=lambda role: -run.memory[role])
    print(f"  {'rows':>12s}" + "".join(f"{role:>10s}" for role in roles))
    for step in range(1, STEPS + 1):
        texts, sizes = next(look for look in run.line if look[0] >= run.rows * step // STEPS)
        print(f"  {texts:12,d}" + "".join(f"{sizes.get(role, 0.0):10.0f}" for role in roles), flush=True)


if __name__ == "__main__":
    main()

"""How near the real job comes to what each simulated GPU server can deliver, with nothing set or all fixed.

    python scripts/bench_tuner.py [PROFILE ...] [--modes auto fixed sync conservative recommended aggressive]
                                  [--ramp 20] [--seconds 20] [--grid] [--cut] [--json FILE] [--picture FILE.png]

Every cell is one `rayembed run` (own Ray, own processes) against tests/servers/gpu. The oracle is the best fixed
setting of a grid, played against the same physics in simulated time; with `--grid`, real jobs with fixed settings
are run beside it, and the best of all is the measure. Wall times of this machine mean little; shares of the oracle
and the GPU's busy share mean much.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.servers.gpu.fixture import GpuServer  # noqa: E402
from tests.servers.gpu.oracle import best, lognormal  # noqa: E402
from tests.servers.gpu.profiles import PROFILES  # noqa: E402

MODES = {
    "auto": [],
    "fixed": ["--concurrency", "8", "--batch-size", "512"],
    "sync": ["--sync"],
    "conservative": ["--async-preset", "conservative"],
    "recommended": ["--async-preset", "recommended"],
    "aggressive": ["--async-preset", "aggressive"],
}
GRID = {f"{limit}x{rows}": (limit, rows) for limit in (4, 16, 64) for rows in (32, 256, 2048)}
GRID_RAMP_S = 3.0
SAMPLE_S = 0.25
WINDOW_S = 2.0  # over which the rate must reach 95 % of the oracle
CUT, CUT_S, SETTLED_S = 0.3, 14.0, 8.0  # of the capacity, for so long; what is measured comes after the settling
CORPUS_ROWS = 200_000
WORDS = 4  # bytes a token, as the server counts


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `tokens_per_s` and `busy` are of the steady state, `share` is of the best setting's tokens/s.

    `reached_s`: when 95 % of the oracle was first held for two seconds, after the first answer. `cut` and
    `restored`: busy share from 8 s after the capacity fell to 30 %, and rose again. `line`: (seconds, busy share,
    limit, tokens of a request) of each sample since the first answer.
    """

    profile: str
    mode: str
    tokens_per_s: float
    share: float
    busy: float
    reached_s: float | None
    refused: int
    ooms: int
    requests: int
    p99_s: float | None
    in_flight: int
    tokens: int
    cut: float | None = None
    restored: float | None = None
    line: list[tuple[float, float, int, int]] = field(default_factory=list)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("profiles", nargs="*", default=["one", "host", "distant", "tei", "infinity", "oom"])
    arguments.add_argument("--modes", nargs="+", choices=list(MODES), default=["auto"])
    arguments.add_argument("--ramp", type=float, default=20.0, help="seconds before the steady state")
    arguments.add_argument("--seconds", type=float, default=20.0, help="of steady state")
    arguments.add_argument("--grid", action="store_true", help="also run fixed settings; the best is the measure")
    arguments.add_argument("--cut", action="store_true", help="then cut the capacity to 30 %%, and restore it")
    arguments.add_argument("--json", type=Path, help="also write the cells here")
    arguments.add_argument("--picture", type=Path, help="draw the time lines of the auto runs")
    given = arguments.parse_args()
    lengths = lognormal(CORPUS_ROWS)
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), lengths, given.ramp, given.seconds, given.cut)
        print(HEAD)
        for profile in given.profiles:
            oracle = best(PROFILES[profile], lengths[:20_000])[1].tokens_per_s
            if given.grid:
                quick = replace(bench, ramp_s=GRID_RAMP_S, seconds=given.seconds / 2, cut=False)
                fixed = {
                    name: ["--concurrency", str(limit), "--batch-size", str(rows)]
                    for name, (limit, rows) in GRID.items()
                    if rows <= PROFILES[profile].most_inputs
                }
                grid = [quick.run(profile, name, options, oracle) for name, options in fixed.items()]
                sane = [cell for cell in grid if cell.refused + cell.ooms <= 0.01 * cell.requests]
                oracle = max([oracle, *(cell.tokens_per_s for cell in sane)])
            for mode in given.modes:
                cells.append(bench.run(profile, mode, MODES[mode], oracle))
                show(cells[-1])
    if given.json:
        given.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1))
    if given.picture:
        from bench_tuner_picture import draw

        draw([asdict(cell) for cell in cells if cell.mode == "auto"], given.picture)


HEAD = (
    f"{'profile':14s} {'mode':12s} {'share':>6s} {'busy':>6s} {'95 % at':>8s} {'refused':>8s} {'OOM':>4s} "
    f"{'p99 ms':>7s} {'cut':>5s} {'back':>5s}  limit x tokens"
)


def show(cell: Cell) -> None:
    reached = f"{cell.reached_s:.1f} s" if cell.reached_s is not None else "never"
    p99 = f"{1000 * cell.p99_s:.0f}" if cell.p99_s is not None else "-"
    cut, restored = (f"{each:5.0%}" if each is not None else "    -" for each in (cell.cut, cell.restored))
    print(
        f"{cell.profile:14s} {cell.mode:12s} {cell.share:6.1%} {cell.busy:6.1%} {reached:>8s} "
        f"{cell.refused / cell.requests:8.2%} {cell.ooms:4d} {p99:>7s} {cut} {restored}  "
        f"{cell.in_flight} x {cell.tokens}",
        flush=True,
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """How each cell is run: `ramp_s` after the first answer, what follows is steady state for `seconds`.

    `lengths` are those of a corpus file's texts, in tokens.
    """

    folder: Path
    lengths: list[int]
    ramp_s: float
    seconds: float
    cut: bool

    def corpus(self, number: int) -> Path:
        """One of any number of files, no text of which is in another: what was embedded once is not sent again."""
        path = self.folder / f"{number:03d}.parquet"
        if not path.exists():
            first = number * CORPUS_ROWS
            texts = [
                f"{first + i:08x}"[::-1].ljust(WORDS * tokens, "x")[: WORDS * tokens]
                for i, tokens in enumerate(self.lengths)
            ]
            pq.write_table(pa.table({"text": texts}), path)
        return path

    def run(self, profile: str, mode: str, options: list[str], oracle: float) -> Cell:
        """One job, watched from the server's side, stopped when enough was seen."""
        out = self.folder / f"{profile}-{mode}"
        with GpuServer(profile) as server, self._job(server, out, options, oracle) as job:
            watch = Watch(server, job)
            watch.until_first_answer()
            reached_s = watch.look(self.ramp_s, 0.95 * oracle)
            ramp = server.stats()
            server.reset()
            watch.look(self.seconds)
            steady = server.stats()
            cut = restored = None
            if self.cut:
                server.capacity(CUT)
                cut = watch.busy_after(SETTLED_S, CUT_S - SETTLED_S)
                server.capacity(1.0)
                restored = watch.busy_after(SETTLED_S, CUT_S - SETTLED_S)
        orders = telemetry(out)
        shutil.rmtree(out, ignore_errors=True)
        tokens_per_s = steady["tokens"] / steady["wall_s"]
        return Cell(
            profile=profile,
            mode=mode,
            tokens_per_s=tokens_per_s,
            share=tokens_per_s / oracle,
            busy=steady["busy"],
            reached_s=reached_s,
            refused=ramp["refused"] + steady["refused"],
            ooms=ramp["ooms"] + steady["ooms"],
            requests=ramp["requests"] + steady["requests"],
            p99_s=steady["p99_s"],
            in_flight=orders[-1]["limit"],
            tokens=orders[-1]["batch_tokens"],
            cut=cut,
            restored=restored,
            line=joined(watch.samples, orders),
        )

    @contextmanager
    def _job(
        self, server: GpuServer, out: Path, options: list[str], oracle: float
    ) -> Iterator[subprocess.Popen[bytes]]:
        inputs = out.with_name(f"{out.name}-in")
        inputs.mkdir()
        seconds = self.ramp_s + self.seconds + (2 * CUT_S if self.cut else 0.0)
        for i in range(2 + int(1.3 * oracle * seconds / (75 * CORPUS_ROWS))):
            os.link(self.corpus(i), inputs / f"{i:03d}.parquet")
        job = subprocess.Popen(
            [sys.executable, "-m", "jobs", "run", str(inputs), "-o", str(out), "--endpoint", server.url, *options],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield job
        finally:
            job.send_signal(signal.SIGINT)
            job.wait(60)
            shutil.rmtree(inputs)


class Watch:
    """What the server says of a job, again and again: `samples` of (seconds since the first answer, busy share)."""

    def __init__(self, server: GpuServer, job: subprocess.Popen[bytes]) -> None:
        self._server = server
        self._job = job
        self.samples: list[tuple[float, float]] = []
        self._first = 0.0
        self._last: dict[str, Any] = {}

    def until_first_answer(self) -> None:
        deadline = time.monotonic() + 90
        while self._server.stats()["tokens"] < 1000:  # no more than the probe
            if self._job.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the job ended or never began (exit code {self._job.returncode})")
            time.sleep(0.05)
        self._first = time.monotonic()
        self._last = self._server.stats()

    def look(self, seconds: float, rate: float | None = None) -> float | None:
        """Sample for so long. When `rate` tokens/s were first held for WINDOW_S, after the first answer."""
        start = time.monotonic()
        seen: list[tuple[float, int]] = []
        reached: float | None = None
        while time.monotonic() - start < seconds:
            time.sleep(SAMPLE_S)
            stats = self._server.stats()
            now = time.monotonic()
            if stats["wall_s"] > self._last["wall_s"]:  # else it was reset
                busy_s, wall_s = (stats[key] - self._last[key] for key in ("busy_s", "wall_s"))
                self.samples.append((now - self._first, busy_s / wall_s / self._server.profile.replicas))
            self._last = stats
            seen.append((now, stats["tokens"]))
            old = [each for each in seen if each[0] <= now - WINDOW_S]
            if rate and reached is None and old and (seen[-1][1] - old[-1][1]) / (now - old[-1][0]) >= rate:
                reached = old[-1][0] - self._first
        return reached

    def busy_after(self, settle_s: float, seconds: float) -> float:
        """The busy share over so many seconds, once things have settled."""
        self.look(settle_s)
        before = len(self.samples)
        self.look(seconds)
        late = [busy for _, busy in self.samples[before:]]
        return sum(late) / len(late)


def telemetry(out: Path) -> list[dict[str, Any]]:
    (file,) = (out / "_telemetry").glob("*.jsonl")
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def joined(samples: list[tuple[float, float]], orders: list[dict[str, Any]]) -> list[tuple[float, float, int, int]]:
    """Each sample with the order of its time; both begin with the first answer."""
    first = next((line["t"] for line in orders if line["rows_per_s"]), 0.0)
    rows = []
    for seconds, busy in samples:
        order = next((line for line in reversed(orders) if line["t"] - first <= seconds), orders[0])
        rows.append((round(seconds, 2), round(busy, 3), order["limit"], order["batch_tokens"]))
    return rows


if __name__ == "__main__":
    main()

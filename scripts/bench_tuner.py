"""How near the real job comes to what each simulated GPU server can deliver, with nothing set or all fixed.

    python scripts/bench_tuner.py [PROFILE ...] [--modes auto fixed sync] [--seconds 20] [--json FILE]

Every cell is one `rayembed run` (own Ray, own processes) against tests/servers/gpu. The oracle is the best fixed
setting of a grid, played against the same physics in simulated time. Wall times of this machine mean little; shares
of the oracle and the GPU's busy share mean much.
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
from dataclasses import asdict, dataclass
from pathlib import Path

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
}
RAMP_S = 12.0  # after the first answer; the steady state is measured from there
SAMPLE_S = 0.25
WINDOW_S = 2.0  # over which the rate must reach 95 % of the oracle
CORPUS_ROWS = 200_000
WORDS = 4  # bytes a token, as the server counts


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `share` is of the oracle's tokens/s, `reached_s` when 95 % of it was first held for two seconds."""

    profile: str
    mode: str
    share: float
    busy: float
    reached_s: float | None
    refused: int
    ooms: int
    requests: int
    p99_s: float | None
    in_flight: int
    tokens: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("profiles", nargs="*", default=["one", "host", "distant", "tei", "infinity", "oom"])
    arguments.add_argument("--modes", nargs="+", choices=list(MODES), default=["auto"])
    arguments.add_argument("--seconds", type=float, default=20.0, help="of steady state")
    arguments.add_argument("--json", type=Path, help="also write the cells here")
    given = arguments.parse_args()
    lengths = lognormal(CORPUS_ROWS)
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus.parquet", lengths)
        print(
            f"{'profile':14s} {'mode':6s} {'share':>6s} {'busy':>6s} {'95 % at':>8s} {'refused':>8s} {'OOM':>4s} "
            f"{'p99 ms':>7s}  limit x tokens"
        )
        for profile in given.profiles:
            oracle = best(PROFILES[profile], lengths[:20_000])[1].tokens_per_s
            for mode in given.modes:
                cell = run(profile, mode, corpus, Path(folder) / f"{profile}-{mode}", oracle, given.seconds)
                cells.append(cell)
                show(cell)
    if given.json:
        given.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1))


def show(cell: Cell) -> None:
    reached = f"{cell.reached_s:.1f} s" if cell.reached_s is not None else "never"
    p99 = f"{1000 * cell.p99_s:.0f}" if cell.p99_s is not None else "-"
    print(
        f"{cell.profile:14s} {cell.mode:6s} {cell.share:6.1%} {cell.busy:6.1%} {reached:>8s} {cell.refused:8d} "
        f"{cell.ooms:4d} {p99:>7s}  {cell.in_flight} x {cell.tokens}",
        flush=True,
    )


def write_corpus(path: Path, lengths: list[int]) -> Path:
    """Distinct texts of so many tokens."""
    texts = [f"{i:08d}".ljust(WORDS * tokens, "x")[: WORDS * tokens] for i, tokens in enumerate(lengths)]
    pq.write_table(pa.table({"text": texts}), path)
    return path


def run(profile: str, mode: str, corpus: Path, out: Path, oracle: float, seconds: float) -> Cell:
    """One job, watched from the server's side, stopped when enough was seen."""
    with GpuServer(profile) as server:
        inputs = [str(copy(corpus, out.parent / f"{out.name}-in", i)) for i in range(repeats(oracle, seconds))]
        command = [sys.executable, "-m", "jobs", "run", *inputs, "-o", str(out), "--endpoint", server.url]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        job = subprocess.Popen(
            [*command, *MODES[mode]],
            cwd=out.parent,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            reached_s = ramp(server, job, oracle)
            server_ramp = server.stats()
            server.reset()
            time.sleep(seconds)
            steady = server.stats()
        finally:
            job.send_signal(signal.SIGINT)
            job.wait(60)
    last = last_line(out)
    return Cell(
        profile=profile,
        mode=mode,
        share=steady["tokens"] / steady["wall_s"] / oracle,
        busy=steady["busy"],
        reached_s=reached_s,
        refused=server_ramp["refused"] + steady["refused"],
        ooms=server_ramp["ooms"] + steady["ooms"],
        requests=server_ramp["requests"] + steady["requests"],
        p99_s=steady["p99_s"],
        in_flight=last["limit"],
        tokens=last["batch_tokens"],
    )


def repeats(oracle: float, seconds: float) -> int:
    """How often the corpus must be there to outlast the measurement."""
    return 2 + int(1.3 * oracle * (RAMP_S + seconds) / (75 * CORPUS_ROWS))


def copy(corpus: Path, folder: Path, number: int) -> Path:
    folder.mkdir(exist_ok=True)
    name = folder / f"{number:03d}.parquet"
    shutil.copyfile(corpus, name)  # a link would be the same file, which counts once
    return name


def ramp(server: GpuServer, job: subprocess.Popen[bytes], oracle: float) -> float | None:
    """Watch until RAMP_S after the first answer; how long after it 95 % of the oracle was first reached."""
    seen: list[tuple[float, int]] = []
    reached: float | None = None
    deadline = time.monotonic() + 90
    while not seen or time.monotonic() - seen[0][0] < RAMP_S:
        if job.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the job ended or never began (exit code {job.returncode})")
        tokens = server.stats()["tokens"]
        if tokens > 1000:  # more than the probe
            seen.append((time.monotonic(), tokens))
            old = [each for each in seen if each[0] <= seen[-1][0] - WINDOW_S]
            if reached is None and old:
                rate = (tokens - old[-1][1]) / (seen[-1][0] - old[-1][0])
                if rate >= 0.95 * oracle:
                    reached = old[-1][0] - seen[0][0]
        time.sleep(SAMPLE_S)
    return reached


def last_line(out: Path) -> dict[str, int]:
    (file,) = (out / "_telemetry").glob("*.jsonl")
    line: dict[str, int] = json.loads(file.read_bytes().splitlines()[-1])
    return line


if __name__ == "__main__":
    main()

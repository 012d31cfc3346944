"""A soak: whatever is killed, each row comes out exactly once and with its own vector.

    python scripts/chaos.py [--minutes 30] [--rows 300000] [--faults 0.2] [--every 5] [--seed N] [--embedders N]

Real `rayembed run` jobs against a simulated GPU server (tests/servers/gpu) that meets this share of the requests
with a fault of every kind. Every few seconds a random process of the job is killed or stopped for a while, the
server is killed and another kind of server comes to its port, or the job itself is killed, alone or with its Ray,
or told to end, and is started again on the same output with another batch size, concurrency and pool. Every row of
every output is checked. A seed repeats what is drawn, not when it happens. Exit code 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from chaos_job import Frozen, Job, end_all, kill, mark  # noqa: E402
from chaos_rows import DIM, POISON, Found, Rows  # noqa: E402

from tests.servers.gpu.fixture import GpuServer  # noqa: E402

STRIKES = {  # how often, against each other
    "embedder": 8,
    "queue": 4,
    "driver": 4,
    "worker": 2,
    "raylet": 0.5,
    "gcs": 0.2,  # Ray itself waits a minute for it
    "freeze": 3,  # an embedder, for longer than its lease
    "server": 5,
    "job": 1.5,
    "job with Ray": 1.5,
    "SIGTERM": 1.5,
}
FREEZE_S = 18.0
SERVERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("slow", {}),
    ("tei", {"speed": 0.3}),
    ("infinity", {"speed": 0.3}),
)
RETRY_AFTER_S = 0.15  # longer ones are taken for a quota, and the job is paced by what is mere chance
PORTS = 20_000, 30_000
BATCH_SIZES = ("auto", "64", "200", "512", "2048")
CONCURRENCIES = ("auto", "4", "16", "48")
POOLS = ("auto", "1", "2", "3")
LOOK_S = 0.2
READ_SHARE = 0.3  # of the strikes are followed by a look into the output
STALLED_S = 180.0  # without a single row from the server
MOST_ENDINGS = 20  # of a job that nobody hurts any more
FINISHED = (0, 3)
SHOWN = 160  # characters of what a job said at its end


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--minutes", type=float, default=30.0, help="the last job is then left in peace to end")
    arguments.add_argument("--rows", type=int, default=300_000, help="of each job")
    arguments.add_argument("--faults", type=float, default=0.2, help="share of the requests")
    arguments.add_argument("--every", type=float, default=5.0, help="seconds between two strikes, on average")
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments.add_argument("--embedders", type=int, help="fixed pool; otherwise each start draws another")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mark()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    kept = False
    try:
        print(f"seed {given.seed}, {given.rows:,} rows a job, faults {given.faults:.0%}, in {folder}", flush=True)
        soak = Soak(folder, given)
        soak.run(60 * given.minutes)
        soak.show()
        kept = bool(soak.problems)
    except KeyboardInterrupt:
        return 130
    finally:
        end_all()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    if kept:
        print(f"outputs and logs are in {folder}")
    return int(kept)


class Server:
    """The simulated server at one port, now of this kind and now of that; counts survive its restarts."""

    def __init__(self, faults: float, draw: random.Random) -> None:
        self._faults = faults
        self._draw = draw
        self._before: Counter[str] = Counter()
        self._server = self._start(_free_port(draw))

    @property
    def url(self) -> str:
        return self._server.url

    def restart(self) -> str:
        """SIGKILL and another one at the same port, of the kind that is returned."""
        self._before = self.counts()
        self._server.kill()
        self._server = self._start(self._server.port)
        return self._name

    def counts(self) -> Counter[str]:
        """Texts answered with their own vectors, and faults by kind, since the start."""
        stats = self._server.stats()
        return self._before + Counter({"texts": stats["texts"], **stats["faults"]})

    def _start(self, port: int) -> GpuServer:
        self._name, fields = self._draw.choice(SERVERS)
        common = {
            "faults": self._faults,
            "poison": POISON,
            "hang_s": 3.0,
            "retry_after_s": RETRY_AFTER_S,
            "dim": DIM,
        }
        return GpuServer(self._name, self._draw.randrange(1 << 30), port, **common, **fields)


def _free_port(draw: random.Random) -> int:
    """Outside the range from which connections get theirs, lest one takes it while the server is away."""
    while True:
        port = draw.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Soak:
    """Job after job until the time is over, and what became of them."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self._draw = random.Random(given.seed)
        self._folder = folder
        self._every_s = given.every
        self._embedders = given.embedders
        self._began = time.monotonic()
        self._rows = Rows(given.rows, given.seed)
        self._rows.write(folder / "in")
        self._server = Server(given.faults, self._draw)
        self._frozen = Frozen()
        self.problems: list[str] = []
        self._found = Found()
        self._kills: Counter[str] = Counter()
        self._gave_up: Counter[str] = Counter()
        self._jobs = self._starts = self._reads = 0

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._jobs += 1
            self._embed(self._folder / f"out-{self._jobs}", until)

    def _embed(self, out: Path, until: float) -> None:
        """One output, from its first start until it is whole and checked."""
        dtype = self._draw.choice(("float32", "float16"))
        endings = 0
        while endings < MOST_ENDINGS:
            code = self._start_and_strike(out, dtype, until)
            if code in FINISHED:
                self._check(out)
                return
            endings += time.monotonic() > until
        self._problem(f"{out.name} does not come to an end")

    def _start_and_strike(self, out: Path, dtype: str, until: float) -> int:
        """The exit code of one start."""
        job = self._start(out, dtype)
        strike_at = self._next_strike()
        answered, answered_at = -1, time.monotonic()
        while (code := job.exit_code) is None:
            time.sleep(LOOK_S)
            self._frozen.thaw()
            if (texts := self._server.counts()["texts"]) != answered:
                answered, answered_at = texts, time.monotonic()
            elif time.monotonic() - answered_at > STALLED_S:
                self._problem(f"stalled for {STALLED_S:.0f} s: {job.last_words()}; its log is {job.log}")
                job.kill_with_ray()
            elif strike_at < time.monotonic() < until:
                self._strike(job)
                strike_at = self._next_strike()
                if self._draw.random() < READ_SHARE:
                    self._look(out)
        if code not in (*FINISHED, 130, -signal.SIGKILL):
            self._gave_up[job.last_words().replace(self._server.url, "the server")[:SHOWN]] += 1
            self._say(f"ended with exit code {code}: {job.last_words()[:SHOWN]}")
        return code

    def _start(self, out: Path, dtype: str) -> Job:
        self._starts += 1
        options = [
            *("--batch-size", self._draw.choice(BATCH_SIZES)),
            *("--concurrency", self._draw.choice(CONCURRENCIES)),
            *("--actors", str(self._embedders or self._draw.choice(POOLS))),
        ]
        self._say(f"job {self._jobs}, start {self._starts}: {' '.join(options)} --dtype {dtype}")
        arguments = [str(self._folder / "in"), "-o", str(out), "--endpoint", self._server.url, "--dtype", dtype]
        return Job([*arguments, *options], self._folder / f"start-{self._starts}.log")

    def _next_strike(self) -> float:
        wait_s: float = self._every_s * self._draw.uniform(0.5, 1.5)
        return time.monotonic() + wait_s

    def _strike(self, job: Job) -> None:
        (kind,) = self._draw.choices(list(STRIKES), list(STRIKES.values()))
        match kind:
            case "server":
                self._say(f"server, now {self._server.restart()}")
            case "job":
                self._say("job")
                job.kill()
            case "job with Ray":
                self._say("job with Ray")
                job.kill_with_ray()
            case "SIGTERM":
                self._say("SIGTERM")
                if not job.terminate():
                    self._problem(f"SIGTERM did not end it; its log is {job.log}")
                    job.kill_with_ray()
            case _:
                victims = job.processes("embedder" if kind == "freeze" else kind)
                if not victims:
                    return
                victim = self._draw.choice(victims)
                self._say(f"{kind} {victim.pid}")
                if kind == "freeze":
                    self._frozen.freeze(victim, FREEZE_S)
                else:
                    kill(victim)
        self._kills[kind] += 1

    def _look(self, out: Path) -> None:
        """The output can be read at any time, and what is there is right."""
        if not out.is_dir():
            return
        self._reads += 1
        try:
            found = self._rows.check_while_running(out)
        except Exception as error:
            self._problem(f"{out.name} cannot be read: {error!r}")
            return
        self._say(f"read {found.rows:,} rows")
        if not found.right:
            self._problem(f"{out.name} while running: {found}")

    def _check(self, out: Path) -> None:
        """Every row of a finished output, by our own count and by `rayembed verify`."""
        try:
            found = self._rows.check(out)
        except Exception as error:
            self._problem(f"{out.name} cannot be read: {error!r}")
            return
        self._found += found
        self._say(f"{out.name} is finished: {found.rows:,} rows, {found.rejects} rejects")
        if not found.right:
            self._problem(f"{out.name}: {found}")
        command = [sys.executable, "-m", "jobs", "verify", str(out)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        verified = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if verified.returncode:
            self._problem(f"verify {out.name}: exit code {verified.returncode}: {verified.stdout}{verified.stderr}")
        if not self.problems:
            shutil.rmtree(out)

    def _problem(self, what: str) -> None:
        self.problems.append(what)
        self._say(f"PROBLEM: {what}")

    def _say(self, what: str) -> None:
        seconds = time.monotonic() - self._began
        print(f"{seconds // 60:3.0f}:{seconds % 60:04.1f}  {what}", flush=True)

    def show(self) -> None:
        """The table."""
        counts = self._server.counts()
        texts = counts.pop("texts")
        found = self._found
        rows = [
            ("minutes", f"{(time.monotonic() - self._began) / 60:.1f}"),
            ("jobs, starts", f"{self._jobs:,}, {self._starts:,}"),
            ("kills", _by_kind(self._kills)),
            ("faults", _by_kind(counts)),
            ("gave up", f"{self._gave_up.total():,}"),
            *(("", f"{times} x {words}") for words, times in self._gave_up.most_common()),
            ("read while running", f"{self._reads:,} times"),
            *((each.metadata.get("name", each.name), f"{getattr(found, each.name):,}") for each in _FIELDS),
            ("rows sent / needed", f"{texts / max(1, found.rows):.2f}"),
            ("problems", "; ".join(self.problems) or "none"),
        ]
        print()
        for name, value in rows:
            print(f"{name:18s}  {value}")


_FIELDS = dataclasses.fields(Found)


def _by_kind(counts: Counter[str]) -> str:
    kinds = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    return f"{counts.total():,}" + (f" ({kinds})" if kinds else "")


if __name__ == "__main__":
    sys.exit(main())

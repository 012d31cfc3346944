"""One cell of the proof: a job with these options against a server, watched in its steady state, then stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from gpu_proof_gauge import Utilisation

from actors.embedder.gauges.page import Page

ROOT = Path(__file__).parents[1]
MODES = {"sync": ["--sync"], "guide": ["--concurrency", "8", "--batch-size", "512"], "auto": []}
START_S, STOP_S = 180.0, 120.0
LOOK_S = 0.1
MOST_OF_IT = 0.9  # of the corpus: what comes last is no steady state


@dataclass(frozen=True, slots=True)
class Cell:
    """Of `seconds` of steady state, as the server counts. `gpu` is (mean, 10th percentile) by gauge.

    `fill` is the share of tokens that are not padding, `busy` that of the time in which the model had a batch,
    `client_cpu` and `server_cpu` are in cores. The last four are what the job says at its end.
    """

    model: str
    batching: str
    mode: str
    seconds: float
    rows_per_s: float
    tokens_per_s: float
    batch_tokens: float
    fill: float
    busy: float
    client_cpu: float
    server_cpu: float
    gpu: dict[str, tuple[float, float]] = field(default_factory=dict)
    in_flight: int | None = None
    batch_rows: int | None = None
    bound_by: str | None = None
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs, and the process of it."""

    url: str
    process: psutil.Process
    model: str
    batching: str


def run(server: Server, mode: str, corpus: Path, work: Path, ramp_s: float, seconds: float, report: Path) -> Cell:
    """`ramp_s` after the first answer the steady state begins. The job's report is copied to `report`."""
    out = work / "out"
    _until_idle(server)
    at_first = counters(server.url)["inputs"]
    with _job(server, mode, corpus, out) as job:
        _until_first_answer(server, job)
        time.sleep(ramp_s)
        with Utilisation() as utilisation:
            before, began = _look(server, job), time.monotonic()
            time.sleep(seconds)
            after, took = _look(server, job), time.monotonic() - began
        if job.poll() is not None or after["inputs"] - at_first > MOST_OF_IT * _rows(corpus):
            raise SystemExit(
                f"the job came to the end of its corpus, which was made for the ceiling in results.json: "
                f"measured on a busy machine? Delete that and try again\n{_end_of(out)}"
            )
    spent = {key: after[key] - before[key] for key in before}
    if not spent["tokens"]:
        raise SystemExit(f"nothing came of the job in {seconds:.0f} s; measure longer\n{_end_of(out)}")
    summary = json.loads((out / "_summary.json").read_text()) if (out / "_summary.json").exists() else {}
    endpoint = (summary.get("endpoints") or [{}])[0]
    with suppress(FileNotFoundError):
        shutil.copyfile(out / "report.html", report)
    shutil.rmtree(out, ignore_errors=True)
    return Cell(
        model=server.model,
        batching=server.batching,
        mode=mode,
        seconds=round(took, 1),
        rows_per_s=spent["inputs"] / took,
        tokens_per_s=spent["tokens"] / took,
        batch_tokens=spent["padded_tokens"] / max(1.0, spent["batches"]),
        fill=spent["tokens"] / max(1.0, spent["padded_tokens"]),
        busy=spent["busy_seconds"] / took,
        client_cpu=spent["client_cpu"] / took,
        server_cpu=spent["server_cpu"] / took,
        gpu=utilisation.summary(),
        in_flight=endpoint.get("concurrency"),
        batch_rows=endpoint.get("batch_size"),
        bound_by=summary.get("bound_by"),
        advice=summary.get("advice", ""),
    )


@contextmanager
def _job(server: Server, mode: str, corpus: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that is asked to end with the block."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name("log").open("wb") as log:
        job = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobs", "run", str(corpus), "-o", str(out), "--endpoint", server.url),
                *MODES[mode],
            ],
            cwd=out.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
        try:
            yield job
        finally:
            with suppress(ProcessLookupError):
                job.send_signal(signal.SIGINT)
            try:
                job.wait(STOP_S)
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()


def _rows(corpus: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in corpus.iterdir())


def _until_idle(server: Server) -> None:
    """The job before may have left something there."""
    deadline = time.monotonic() + STOP_S
    while _here(server.url) and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _until_first_answer(server: Server, job: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    few = counters(server.url)["inputs"] + 200  # no more than the job's probe
    while counters(server.url)["inputs"] < few:
        if job.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the job ended or never began (exit code {job.returncode})")
        time.sleep(LOOK_S)


def _look(server: Server, job: subprocess.Popen[bytes]) -> dict[str, float]:
    return {
        **counters(server.url),
        "client_cpu": _cpu_s(job.pid),
        "server_cpu": sum(server.process.cpu_times()[:2]),
    }


def counters(url: str) -> dict[str, float]:
    """What the server has counted since it began."""
    page = _page(url)
    names = ("inputs", "tokens", "padded_tokens", "batches", "busy_seconds")
    return {name: sum(page.values(f"rayembed_{name}_total")) for name in names}


def _here(url: str) -> float:
    """Texts that wait or are computed."""
    page = _page(url)
    return sum(page.values("rayembed_inputs_waiting") + page.values("rayembed_inputs_running"))


def _page(url: str) -> Page:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/metrics", timeout=60) as answer:
        return Page(answer.read().decode())


def _cpu_s(pid: int) -> float:
    """Of the job and all that it started, Ray too."""
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:2])
    return total


def _end_of(out: Path) -> str:
    return out.with_name("log").read_text(errors="replace")[-1000:]

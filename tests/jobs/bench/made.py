"""Saved results, made up: as `rayembed bench` writes them, without a run."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from jobs.bench.measure import second_half
from jobs.bench.outcome import comparison, mode_result
from jobs.bench.results import Comparison, Figures, ModeResult, Names, Run, Setup, save
from jobs.bench.schedule import Mode
from jobs.bench.vectors import Agreement
from jobs.report.timeline import Timeline, read_timeline
from tests.jobs.report.recorded import A, record, summary, ticks

SERVERS = {A: {"server": "vLLM", "dimensions": "768"}}


def timeline(seconds: float = 20.0, **changes: Any) -> Timeline:
    """Of one run against one endpoint, with the same line each tick."""
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), ticks(seconds, A, **changes))
        return read_timeline(Path(folder))


def run(rows_per_s: float, seconds: float = 20.0, gpu: float | None = 0.5, **changes: Any) -> Run:
    """`changes` are of its summary."""
    seen = timeline(seconds, rows_per_s=rows_per_s, gpu_util=gpu)
    said = asdict(replace(summary(), rows_per_s=rows_per_s, **changes))
    return Run(
        started="2026-11-24 03:36:56 UTC",
        summary=msgspec.convert(said, Figures),
        steady=second_half(seen),
        timeline=seen,
    )


def setup(started: str = "2026-11-24 03:36:56 UTC", **changes: Any) -> Setup:
    whole = Setup(
        started=started,
        finished="2026-11-24 03:39:00 UTC",
        machine={"processor": "2 × a processor", "memory": "24 GiB"},
        servers=SERVERS,
        corpus="corpus.parquet",
        rows=15_000,
        model="bge-base",
        dim=768,
    )
    return msgspec.structs.replace(whole, **changes)


def result(mode: Mode, *rates: float, of: Setup | None = None, **changes: Any) -> ModeResult:
    """A run at each of these rates."""
    settings = {"mode": mode, "requests in flight": "1" if mode == "sync" else "tuned"}
    return mode_result(mode, of or setup(), settings, [run(rate, **changes) for rate in rates])


def compared(sync: ModeResult, async_: ModeResult, vectors: Agreement | None = None) -> Comparison:
    first: list[Mode] = ["sync", "async"] * 5
    found = comparison(
        sync.setup,
        {"sync": ("sync_a.json", sync), "async": ("async_a.json", async_)},
        first[: len(sync.runs)],
        vectors or Agreement(rows=15_000, identical=15_000),
    )
    assert found
    return found


def save_three(folder: Path, started: str = "2026-11-24 03:36:56 UTC", name: str = "a", **changes: Any) -> None:
    """What `--mode both` saves."""
    of = setup(started, **changes)
    sync, async_ = result("sync", 1000.0, 1100.0, of=of, gpu=0.25), result("async", 9000.0, 8800.0, of=of, gpu=0.98)
    both = msgspec.structs.replace(
        compared(sync, async_), results=Names(sync=f"sync_{name}.json", async_=f"async_{name}.json")
    )
    for each in (sync, async_, both):
        save(folder, f"{each.kind}_{name}", each)

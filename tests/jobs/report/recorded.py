"""What a run leaves behind, made up: a summary, and telemetry."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.summary import Summary

A, B = "http://gpu-a:8000/v1", "http://gpu-b:8000/v1"


def summary(**changes: Any) -> Summary:
    endpoints = (
        {"url": A, "rows": 600_000, "share": 0.6, "concurrency": 64, "batch_size": 1024},
        {"url": B, "rows": 400_000, "share": 0.4, "concurrency": 32, "batch_size": 512},
    )
    whole = Summary(
        complete=True,
        rows_total=1_000_000,
        rows_embedded=1_000_000,
        rows_rejected=0,
        rows_resumed=0,
        rows_truncated=0,
        unique_texts=380_000,
        rows_fanned_out=620_000,
        rows_reused=0,
        rows_repeating_an_id=None,
        tokens=62_000_000,
        seconds=90.0,
        rows_per_s=11_111.1,
        tokens_per_s=688_888.9,
        requests=1234,
        retries=7,
        errors={"transport": 2, "overloaded": 5},
        dim=768,
        model="BAAI/bge-base-en-v1.5",
        gpu_util_mean=0.93,
        gpu_util_p10=0.88,
        gpu_source="nvml",
        cpu_seconds=24.5,
        endpoints=endpoints,
        bound_by="server",
        advice="GPU 93% busy: the server is the limit",
    )
    return replace(whole, **changes)


def tick(t: float, endpoint: str, **changes: Any) -> dict[str, Any]:
    line = {
        "t": t,
        "endpoint": endpoint,
        "limit": 16,
        "inflight": 15,
        "batch_rows": 256,
        "batch_tokens": 16384,
        "rows_per_s": 5000.0,
        "tokens_per_s": 310_000.0,
        "gpu_util": 0.5,
        "gpu_source": "nvml",
        "queue": 60_000,
        "p50_ms": 51.2,
        "p99_ms": 120.5,
        "errors": {},
        "decision": "measuring",
    }
    assert changes.keys() <= line.keys()
    return line | changes


def ticks(seconds: float, *endpoints: str, **changes: Any) -> Iterable[dict[str, Any]]:
    for step in range(1, int(seconds * 2) + 1):
        for endpoint in endpoints:
            yield tick(step / 2, endpoint, **changes)


def record(out: Path, lines: Iterable[dict[str, Any]], name: str = "20261123T140312.512345Z") -> Path:
    (out / "_telemetry").mkdir(exist_ok=True)
    file = out / "_telemetry" / f"{name}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file

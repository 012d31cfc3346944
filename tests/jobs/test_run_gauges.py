"""Whole runs that see GPUs and queues: through NVML, with a stub for its library, and on the server's own page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.jobs.corpora import texts, write_parquet
from tests.servers.fixture import EmbeddingServer
from tests.servers.gpu.fixture import GpuServer
from tests.servers.nvml.library import nvml_stub

__all__ = ["nvml_stub"]
BEYOND_THE_RAMP = ("--concurrency", 2, "--batch-size", 20)  # of 400 texts at 25 a second


def telemetry(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "_telemetry").glob("*.jsonl"))
    return [msgspec.json.decode(line) for file in files for line in file.read_bytes().splitlines()]


def test_the_gpu_on_which_the_server_computes_is_in_the_summary(
    rayembed: Any, server: EmbeddingServer, tmp_path: Path, nvml_stub: dict[str, str]
) -> None:
    """Among two others, on which others do."""
    corpus = write_parquet(tmp_path / "c.parquet", texts(400))
    server.behave(texts_per_s=25)
    gpus = {"STUB_BUSY": "99,60,99", "STUB_PIDS": f"1;{server.pid};1"}
    command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--json", *BEYOND_THE_RAMP)
    run = rayembed(*command, own_ray=True, **nvml_stub, **gpus)
    assert run.wait() == 0, run.err
    summary = run.summary()
    assert summary["gpu_source"] == "nvml"
    assert (summary["gpu_util_mean"], summary["gpu_util_p10"]) == pytest.approx((0.6, 0.6))
    seen = [line for line in telemetry(tmp_path / "out") if line["gpu_util"] is not None]
    assert {(line["gpu_source"], line["gpu_util"], line["queue"]) for line in seen} == {("nvml", 0.6, None)}


def test_a_gpu_that_cannot_be_read_changes_nothing(
    rayembed: Any, server: EmbeddingServer, tmp_path: Path, nvml_stub: dict[str, str]
) -> None:
    corpus = write_parquet(tmp_path / "c.parquet", texts(400))
    command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--json")
    run = rayembed(*command, own_ray=True, **nvml_stub, STUB_BUSY="99", STUB_DENIED="1")
    assert run.wait() == 0, run.err
    summary = run.summary()
    assert summary["rows_embedded"] == 400
    assert (summary["gpu_source"], summary["gpu_util_mean"]) == (None, None)


def test_a_servers_own_page_is_followed(rayembed: Any, tmp_path: Path) -> None:
    corpus = write_parquet(tmp_path / "c.parquet", texts(1500))
    eight = ("--concurrency", 8, "--batch-size", 32)  # one request is worked on, seven wait
    with GpuServer("tei", fixed_s=0.5) as gpu_server:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", gpu_server.url, "--json", *eight)
        assert run.wait() == 0, run.err
    assert run.summary()["gpu_source"] == "dcgm"
    lines = telemetry(tmp_path / "out")
    assert any(line["gpu_util"] for line in lines)
    assert any(line["queue"] for line in lines)
    assert any(line["window_rows"] for line in lines)

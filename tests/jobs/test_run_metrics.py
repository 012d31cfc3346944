"""The metrics of a running job, on the page that Prometheus would read: that of a real Ray that exports metrics."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.driver.metrics import METRICS
from tests.conftest import eventually
from tests.jobs.corpora import texts, write_parquet
from tests.servers.gpu.fixture import GpuServer

_NONE = {"rayembed_errors", "rayembed_retries"}  # there are none to be counted


@dataclass(frozen=True, slots=True)
class Exporting:
    """A Ray of our own."""

    address: str
    metrics_port: int

    def page(self) -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        except httpx.HTTPError:
            return ""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def exporting() -> Iterator[Exporting]:
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: it holds sockets
    port, metrics_port = _free_port(), _free_port()
    options = ("--head", "--block", "--include-dashboard=false", "--disable-usage-stats", "--num-cpus=2")
    ports = (f"--port={port}", f"--metrics-export-port={metrics_port}", "--dashboard-agent-listen-port=0")
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *options, *ports, f"--temp-dir={folder}"],
        env=os.environ | {"RAY_metrics_report_interval_ms": "500"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = Exporting(f"127.0.0.1:{port}", metrics_port)
    eventually(found.page, timeout=120)
    yield found
    process.terminate()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def test_they_come_out_under_the_names_that_the_dashboard_asks_for(
    rayembed: Any, exporting: Exporting, tmp_path: Path
) -> None:
    corpus = write_parquet(tmp_path / "c.parquet", texts(20_000))
    with GpuServer("tei", fixed_s=1.0) as server:  # no more than 512 texts a second
        rayembed("run", corpus, "-o", "out", "--endpoint", server.url, own_ray=True, RAY_ADDRESS=exporting.address)
        wanted = {metric.exported for name, metric in METRICS.items() if name not in _NONE}

        def all_there() -> str:
            page = exporting.page()
            return page if all(f"\n{name}{{" in page for name in wanted) else ""

        page = eventually(all_there, timeout=120)
    assert f'endpoint="{server.url}"' in page
    assert f'output="{tmp_path / "out"}"' in page
    (rows,) = re.findall(r"\nray_rayembed_rows_total{[^}]*} ([\d.e+]+)", page)
    assert 0 < float(rows) <= 20_000
    assert re.search(r"\n# TYPE ray_rayembed_rows_total counter", page)
    assert re.search(r'\nray_rayembed_request_latency_seconds{[^}]*quantile="0.99"', page)

"""The metrics of a running job, on the page that Prometheus would read: that of a real Ray that exports metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.driver.metrics import METRICS
from tests.conftest import eventually
from tests.jobs.cluster.machines import Machines, machines
from tests.jobs.corpora import texts, write_parquet
from tests.servers.gpu.fixture import GpuServer

_NONE = {"rayembed_errors", "rayembed_retries"}  # there are none to be counted


class Exporting:
    """A Ray of our own, and the page that its one machine exports."""

    def __init__(self, cluster: Machines) -> None:
        self._machine = cluster.head("--include-dashboard=false", "--num-cpus=2")
        self.address = cluster.address

    def page(self) -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{self._machine.metrics_port}/metrics", trust_env=False).text
        except httpx.HTTPError:
            return ""


@pytest.fixture
def exporting() -> Iterator[Exporting]:
    with machines(RAY_metrics_report_interval_ms="500") as cluster:
        found = Exporting(cluster)
        eventually(found.page)
        yield found


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

        page = eventually(all_there)
    assert f'endpoint="{server.url}"' in page
    assert f'output="{tmp_path / "out"}"' in page
    (rows,) = re.findall(r"\nray_rayembed_rows_total{[^}]*} ([\d.e+]+)", page)
    assert 0 < float(rows) <= 20_000
    assert re.search(r"\n# TYPE ray_rayembed_rows_total counter", page)
    assert re.search(r'\nray_rayembed_request_latency_seconds{[^}]*quantile="0.99"', page)

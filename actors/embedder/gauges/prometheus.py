"""A Prometheus page with GPU utilisation: a DCGM exporter, Triton, or the server's own `/metrics`.

Names and units: DCGM exporter's default counters and Triton's metrics guide. Newer DCGM appends to its names, so
they are matched from the start.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence

import httpx

from actors.messages import Endpoint, GpuSample

_EVERY_S = 1.0
_TIMEOUT_S = 2.0
_GAUGES = (  # name, and what its value is multiplied by
    ("DCGM_FI_DEV_GPU_UTIL", 0.01),
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 1.0),  # the only one of DCGM's that MIG has
    ("nv_gpu_utilization", 1.0),
)
_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{[^}]*\})?\s+(?P<value>[^\s]+)", re.MULTILINE)


class Prometheus:
    """The mean over the pages' GPUs that do something, fetched by a thread of its own."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._latest: tuple[float, float] | None = None  # utilisation, when it was fetched
        threading.Thread(target=self._poll, name="gpu-metrics", daemon=True).start()

    def read(self) -> GpuSample | None:
        latest = self._latest
        return GpuSample(latest[0], "metrics", time.monotonic() - latest[1]) if latest else None

    def _poll(self) -> None:
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            while True:
                found = [share for url in self._urls if (share := _fetch(client, url)) is not None]
                if found:
                    self._latest = sum(found) / len(found), time.monotonic()
                time.sleep(_EVERY_S)


def open_prometheus(endpoints: Sequence[Endpoint]) -> Prometheus | None:
    """A gauge when at least one endpoint's page, as named or at `/metrics`, speaks of GPU utilisation."""
    with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
        pages = [endpoint.metrics_url or _own_page(endpoint.url) for endpoint in endpoints]
        urls = [url for url in pages if _fetch(client, url) is not None]
    return Prometheus(urls) if urls else None


def utilisation(page: str) -> float | None:
    """0..1 from a page in Prometheus' text format: the mean over its GPUs that are not idle; None without one."""
    samples = [(match["name"], match["value"]) for match in _SAMPLE.finditer(page)]
    for name, unit in _GAUGES:
        shares = [unit * float(value) for sample, value in samples if sample.startswith(name) and _is_number(value)]
        if shares:
            busy = [share for share in shares if share > 0]
            return min(1.0, sum(busy) / len(busy)) if busy else 0.0
    return None


def _fetch(client: httpx.Client, url: str) -> float | None:
    try:
        answer = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return utilisation(answer.text) if answer.status_code == 200 else None


def _own_page(url: str) -> str:
    return f"{url.removesuffix('/v1')}/metrics"


def _is_number(value: str) -> bool:
    try:
        return float(value) >= 0  # not NaN
    except ValueError:
        return False

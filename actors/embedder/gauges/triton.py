"""Triton: utilisation of its GPUs, and requests that wait. Source: Triton's metrics guide.

Its metrics are at port 8002 (as installed) beside the HTTP port; behind a gateway they may be at the same.
"""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, Share, depth
from actors.embedder.gauges.page import Page, of_busy
from actors.embedder.gauges.places import at_port, own_metrics
from actors.messages import Endpoint

_PORT = 8002
_PERIOD_S = 2.0  # its option --metrics-interval-ms, as installed


def _places(endpoint: Endpoint) -> tuple[str, ...]:
    """The other port is knocked at only where Triton's protocol is spoken."""
    other = at_port(endpoint, _PORT, "/metrics") if endpoint.dialect == "kserve" else ()
    return (*own_metrics(endpoint), *other)


def _gpu(page: Page) -> Share | None:
    shares = [value for value in page.values("nv_gpu_utilization") if value <= 1]
    return Share(of_busy(shares), "triton") if shares else None


TRITON = PageGauge(
    "triton",
    gpu=_gpu,
    queue=depth("nv_inference_pending_request_count"),
    places=_places,
    measures={"triton": "time in which a kernel runs"},
    family="nv_gpu_",
    period_s=_PERIOD_S,
)

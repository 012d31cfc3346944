"""NVIDIA's DCGM exporter: utilisation of a host's GPUs, of parts of GPUs (MIG) too.

Names and units: dcgm-exporter's etc/default-counters.csv, where SM_ACTIVE is commented out. Newer DCGM appends to
its names, so they are matched from the start. What a GPU cannot tell is shown as a number near 2^63.
"""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, Share
from actors.embedder.gauges.page import Page, of_busy

_FIELDS = (  # name, what its value is multiplied by, our word
    ("DCGM_FI_PROF_SM_ACTIVE", 1.0, "dcgm-sm"),
    ("DCGM_FI_DEV_GPU_UTIL", 0.01, "dcgm"),
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 1.0, "dcgm-engine"),  # MIG has this one as installed
)
_PERIOD_S = 30.0  # its option --collect-interval, as installed


def _gpu(page: Page) -> Share | None:
    idle: Share | None = None
    for name, unit, source in _FIELDS:
        shares = [unit * value for value in page.values(name, longer=True) if unit * value <= 1]
        if shares and (share := of_busy(shares)) > 0:
            return Share(share, source)
        if shares and idle is None:
            idle = Share(0.0, source)
    return (
        idle  # only if all say so: the PROF fields may read 0 for good after a long time (dcgm-exporter issue 662)
    )


DCGM = PageGauge(
    "dcgm",
    gpu=_gpu,
    measures={
        "dcgm-sm": "multiprocessors (SMs) that have work",
        "dcgm": "time in which a kernel runs",
        "dcgm-engine": "time in which the compute engine has work",
    },
    family="DCGM_",
    period_s=_PERIOD_S,
)

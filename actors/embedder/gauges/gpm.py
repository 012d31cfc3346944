"""NVML's GPM (Hopper and newer): how many of the multiprocessors had work, on average between two samples.

Source: NVML's reference, GPM functions; samples must be 100 ms apart or more.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

_SAMPLES = 3  # the mean between the first and the last: a second, at two readings a second


class Gpm:
    """One GPU."""

    source = "gpm"
    measures = "multiprocessors (SMs) that have work"
    lag_s = 0.0

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml, self._device = nvml, device
        if not nvml.nvmlGpmQueryDeviceSupport(device).isSupportedDevice:
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        if _split(nvml, device):  # samples of the whole would be of the neighbours too
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        self._query = nvml.c_nvmlGpmMetricsGet_t()
        self._query.version = nvml.NVML_GPM_METRICS_GET_VERSION
        self._query.numMetrics = 1
        self._query.metrics[0].metricId = nvml.NVML_GPM_METRIC_SM_UTIL
        self._free = [nvml.nvmlGpmSampleAlloc() for _ in range(_SAMPLES)]
        self._taken: deque[Any] = deque()
        self._sample()

    def read(self) -> float | None:
        self._sample()
        self._query.sample1, self._query.sample2 = self._taken[0], self._taken[-1]
        self._nvml.nvmlGpmMetricsGet(self._query)
        metric = self._query.metrics[0]
        if metric.nvmlReturn != self._nvml.NVML_SUCCESS or not math.isfinite(metric.value):
            return None
        return min(1.0, max(0.0, float(metric.value) / 100))

    def close(self) -> None:
        for buffer in (*self._free, *self._taken):
            self._nvml.nvmlGpmSampleFree(buffer)

    def _sample(self) -> None:
        buffer = self._free.pop() if self._free else self._taken.popleft()
        try:
            self._nvml.nvmlGpmSampleGet(self._device, buffer)
        except self._nvml.NVMLError:
            self._free.append(buffer)
            raise
        self._taken.append(buffer)


def _split(nvml: Any, device: Any) -> bool:
    """Whether the GPU is cut into instances (MIG)."""
    try:
        now, _ = nvml.nvmlDeviceGetMigMode(device)
    except nvml.NVMLError:  # it has no such thing
        return False
    return bool(now == nvml.NVML_DEVICE_MIG_ENABLE)

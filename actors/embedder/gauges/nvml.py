"""NVML's utilisation: the share of the last sample period (1/6 s to 1 s by product) in which a kernel ran.

100 % says only that the GPU was never idle: one small kernel on one multiprocessor is enough. There is none with
MIG. Source: NVML's reference, nvmlUtilization_t.
"""

from __future__ import annotations

from typing import Any


class Nvml:
    """One GPU."""

    source = "nvml"
    measures = "time in which a kernel runs"
    lag_s = 0.5  # NVML does not say when it sampled

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml, self._device = nvml, device

    def read(self) -> float | None:
        return float(self._nvml.nvmlDeviceGetUtilizationRates(self._device).gpu) / 100

    def close(self) -> None: ...

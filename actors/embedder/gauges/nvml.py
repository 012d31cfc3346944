"""NVML: the utilisation of this machine's own GPUs, so it speaks only for an endpoint on this machine.

`utilization.gpu` is the share of the last sample period (1/6 s to 1 s by product) in which a kernel ran.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import psutil

from actors.messages import Endpoint, GpuSample

_SAMPLE_AGE_S = 0.5  # NVML does not say when it sampled; its period is at most 1 s


class Nvml:
    """The mean over the GPUs on which some process computes, or over all when none does."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._devices = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]

    def read(self) -> GpuSample | None:
        busy: list[float] = []
        every: list[float] = []
        for device in self._devices:
            try:
                share = self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
                every.append(share)
                if self._nvml.nvmlDeviceGetComputeRunningProcesses(device):
                    busy.append(share)
            except self._nvml.NVMLError:
                continue  # MIG, no permission, a card that fell off: no signal from this one
        counted = busy or every
        return GpuSample(sum(counted) / len(counted), "nvml", _SAMPLE_AGE_S) if counted else None


def open_nvml(endpoints: Sequence[Endpoint]) -> Nvml | None:
    """A gauge when one of the endpoints is on this machine and NVML sees a GPU here; else None."""
    if not any(_is_here(endpoint.url) for endpoint in endpoints):
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        return Nvml(pynvml) if pynvml.nvmlDeviceGetCount() else None
    except Exception:  # no driver, no library, no permission: 'no gauge' is a normal state
        return None


def _is_here(url: str) -> bool:
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, ValueError):  # no such host, no such name of a host
        return False
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(str(info[4][0]) in own or str(info[4][0]).startswith("127.") for info in found)

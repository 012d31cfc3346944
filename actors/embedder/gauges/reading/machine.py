"""This machine's own GPUs through NVML, for the endpoints that are on this machine."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from actors.embedder.gauges.base import CardGauge, CardReader
from actors.embedder.gauges.places import origin
from actors.embedder.gauges.reading.listener import is_here, listeners
from actors.embedder.gauges.reading.whose import Card, Server, cards_of
from actors.messages import Endpoint, GpuSample

_EVERY_S = 0.5
_AGAIN_S = 30.0  # when there was nothing to be read; and how long a server keeps its processes
_LOST_S = 10.0  # a reading that is not followed by another is forgotten


class _Reading(NamedTuple):
    value: float
    kind: CardGauge
    at: float


class Machine:
    """`look` is called by a thread of its own, since a driver that fails can take seconds to say so."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        kinds: Sequence[CardGauge],
        load: Callable[[], Any] | None = None,
    ) -> None:
        """`kinds`, the one that says most first; `load` imports NVML."""
        self._endpoints = endpoints
        self._kinds = kinds
        self._load = load or _pynvml
        self._ports: dict[str, int] | None = None  # of the endpoints that are here
        self._servers: dict[int, Server] = {}
        self._servers_found = -math.inf
        self._nvml: Any = None
        self._devices: list[tuple[Any, str, dict[str, CardReader]]] = []
        self._latest: dict[str, _Reading] = {}

    def look(self) -> float:
        """Read once. Seconds until it is worth while again, infinite when it never will be."""
        if self._ports is None:
            here = {each.url: origin(each.url) for each in self._endpoints if is_here(each.url)}
            self._ports = {url: found[2] for url, found in here.items() if found}
        if not self._ports:
            return math.inf
        if self._nvml is None:
            if (after_s := self._open()) is not None:
                return after_s
            return _EVERY_S  # the first reading of some kinds needs a time to be of
        self._latest = self._read(self._ports)
        if self._latest:
            return _EVERY_S
        self.close()  # MIG, no permission, a driver that is gone
        return _AGAIN_S

    def gpu(self, url: str) -> GpuSample | None:
        reading, now = self._latest.get(url), time.monotonic()
        if reading is None or now - reading.at > _LOST_S:
            return None
        return GpuSample(reading.value, reading.kind.source, now - reading.at + reading.kind.lag_s)

    def close(self) -> None:
        readers = [reader for _, _, its in self._devices for reader in its.values()]
        self._devices, self._latest = [], {}
        if self._nvml is None:
            return
        for end in (*(reader.close for reader in readers), self._nvml.nvmlShutdown):
            with contextlib.suppress(self._nvml.NVMLError):
                end()
        self._nvml = None

    def _open(self) -> float | None:
        """None when NVML is open; else how long to wait for it."""
        try:
            nvml = self._load()
        except ImportError:
            return math.inf
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            return math.inf if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND else _AGAIN_S
        self._nvml = nvml
        try:
            self._devices = [self._device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            self.close()
            return _AGAIN_S
        return None

    def _device(self, nvml: Any, index: int) -> tuple[Any, str, dict[str, CardReader]]:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        readers: dict[str, CardReader] = {}
        for kind in self._kinds:
            try:
                readers[kind.source] = kind(nvml, device)
            except nvml.NVMLError:
                continue  # this GPU, or its driver, does not have it
        try:
            uuid = str(nvml.nvmlDeviceGetUUID(device))
        except nvml.NVMLError:
            uuid = ""
        return device, uuid, readers

    def _read(self, ports: dict[str, int]) -> dict[str, _Reading]:
        cards = [Card(index, uuid, self._pids(device)) for index, (device, uuid, _) in enumerate(self._devices)]
        self._find_servers(set(ports.values()))
        told: dict[tuple[int, str], float | None] = {}
        readings: dict[str, _Reading] = {}
        for url, port in ports.items():
            chosen = cards_of(cards, self._servers.get(port))
            for kind in self._kinds:
                for card in chosen:
                    if (card.index, kind.source) not in told:
                        told[card.index, kind.source] = self._share(card.index, kind.source)
                shares = [share for card in chosen if (share := told[card.index, kind.source]) is not None]
                # GPUs are not measured in two ways at once; what some do not tell in any way, the others speak for
                if shares and (len(shares) == len(chosen) or kind is self._kinds[-1]):
                    readings[url] = _Reading(sum(shares) / len(shares), kind, time.monotonic())
                    break
        return readings

    def _share(self, index: int, source: str) -> float | None:
        reader = self._devices[index][2].get(source)
        try:
            return reader.read() if reader else None
        except self._nvml.NVMLError:
            return None

    def _pids(self, device: Any) -> frozenset[int]:
        try:
            return frozenset(each.pid for each in self._nvml.nvmlDeviceGetComputeRunningProcesses(device))
        except self._nvml.NVMLError:
            return frozenset()

    def _find_servers(self, ports: set[int]) -> None:
        """Now and then: a server may have been restarted, and looking costs tens of milliseconds."""
        if time.monotonic() - self._servers_found > _AGAIN_S:
            self._servers = listeners(ports)
            self._servers_found = time.monotonic()


def _pynvml() -> Any:
    import pynvml

    return pynvml

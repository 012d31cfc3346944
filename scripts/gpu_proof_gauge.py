"""How busy this machine's first GPU is, read with the job's own gauges."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np

from actors.embedder.gauges import CARD_GAUGES
from actors.embedder.gauges.base import CardReader

SAMPLE_S = 0.5


class Utilisation:
    """A block in which it is read twice a second; `summary` tells of it, also afterwards."""

    def __init__(self) -> None:
        self._readers: dict[str, CardReader] = {}
        self._samples: dict[str, list[float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Utilisation:
        nvml = _nvml()
        if nvml is not None:
            device = nvml.nvmlDeviceGetHandleByIndex(0)
            for kind in CARD_GAUGES:
                with suppress(nvml.NVMLError):
                    self._readers[kind.source] = kind(nvml, device)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def summary(self) -> dict[str, tuple[float, float]]:
        """Mean and 10th percentile, 0..1, by source: nvml, gpm. Empty without a GPU."""
        return {
            source: (float(np.mean(samples)), float(np.percentile(samples, 10)))
            for source, samples in self._samples.items()
            if samples
        }

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            for source, reader in self._readers.items():
                with suppress(Exception):  # NVMLError: this time it cannot be read
                    if (share := reader.read()) is not None:
                        self._samples.setdefault(source, []).append(share)


def _nvml() -> Any:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml

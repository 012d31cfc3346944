"""What a gauge of GPU utilisation promises."""

from __future__ import annotations

from typing import Protocol

from actors.messages import GpuSample


class Gauge(Protocol):
    def read(self) -> GpuSample | None:
        """The latest sample; None when there is none now. Never raises, returns within milliseconds."""
        ...

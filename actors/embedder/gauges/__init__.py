"""Sources of GPU utilisation. A new one is a file beside this and a line in `OPENERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.embedder.gauges.base import Gauge
from actors.embedder.gauges.nvml import open_nvml
from actors.embedder.gauges.prometheus import open_prometheus
from actors.messages import Endpoint

OPENERS: tuple[Callable[[Sequence[Endpoint]], Gauge | None], ...] = (open_nvml, open_prometheus)


def open_gauge(endpoints: Sequence[Endpoint]) -> Gauge | None:
    """The first gauge that can be read for these endpoints from this machine; None is a normal state."""
    return next((gauge for opener in OPENERS if (gauge := opener(endpoints)) is not None), None)


__all__ = ["Gauge", "open_gauge"]

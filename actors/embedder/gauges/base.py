"""What the gauges promise: utilisation of the GPUs behind an endpoint, and how many inputs wait there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from actors.embedder.gauges.page import Page
from actors.embedder.gauges.places import own_metrics
from actors.messages import Endpoint, GpuSample, QueueSample


class Gauge(Protocol):
    """All that can be read for some endpoints, kept up to date by threads of its own.

    None is a normal answer. Nothing here raises, waits for anything, or costs more than microseconds.
    """

    def gpu(self, url: str) -> GpuSample | None:
        """Of the GPUs behind the endpoint `url`."""
        ...

    def queue(self, url: str) -> QueueSample | None:
        """At the endpoint `url`, as its server counts."""
        ...

    def close(self) -> None:
        """Read nothing more."""
        ...


class Share(NamedTuple):
    """Utilisation 0..1, and the one word for where it was read, which says what was measured, too."""

    value: float
    source: str


class Depth(NamedTuple):
    """What waits at a server and what it works on, in what it counts: inputs, at Triton requests."""

    waiting: int
    running: int | None = None


def _no_gpu(_: Page) -> Share | None:
    return None


def _no_queue(_: Page, __: str) -> Depth | None:
    return None


@dataclass(frozen=True, slots=True)
class PageGauge:
    """How the page of one kind of server or exporter is read. Pure.

    `places` are the URLs where such a page may be, beside the one that the user names. `queue` is told the model.
    `measures` says, for each word of a `Share`, of what it is the share. An exporter refreshes all names that begin
    with `family` together, every `period_s` seconds if nobody has changed that.
    """

    source: str
    gpu: Callable[[Page], Share | None] = _no_gpu
    queue: Callable[[Page, str], Depth | None] = _no_queue
    places: Callable[[Endpoint], tuple[str, ...]] = own_metrics
    measures: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    period_s: float = 0.0


def depth(waiting: str, running: str | None = None) -> Callable[[Page, str], Depth | None]:
    """Reads the Prometheus gauges of these names; None where the first is missing."""

    def read(page: Page, model: str) -> Depth | None:
        waits = page.total(waiting, model)
        if waits is None:
            return None
        runs = page.total(running, model) if running else None
        return Depth(int(waits), None if runs is None else int(runs))

    return read


class CardReader(Protocol):
    """One way to read the utilisation of one GPU of this machine."""

    def read(self) -> float | None:
        """0..1 over about the last second. Raises NVMLError."""
        ...

    def close(self) -> None:
        """Give back what it holds. Raises NVMLError."""
        ...


class CardGauge(Protocol):
    """A kind of `CardReader`. `lag_s`: how long ago the time that it tells of ended, on average."""

    source: str
    measures: str
    lag_s: float

    def __call__(self, nvml: Any, device: Any) -> CardReader:
        """Raises NVMLError when this GPU cannot be read so."""
        ...

"""All gauges of an embedder together, and which of them counts for an endpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from actors.embedder.gauges.base import CardGauge, PageGauge
from actors.embedder.gauges.places import sees_key
from actors.embedder.gauges.reading.machine import Machine
from actors.embedder.gauges.reading.poller import Poller, Source, look_at
from actors.embedder.gauges.reading.watch import Watch
from actors.messages import Endpoint, GpuSample, QueueSample

_APART_S = 0.6  # two readings of this machine's GPUs
_MOST_AT_ONCE = 16
_HERE = "NVML, this machine"


@dataclass(frozen=True, slots=True)
class Readable:
    """Something that can be read of an endpoint, and what it says now.

    `what` is "GPU utilisation" (0..1) or "queue" (what waits, in inputs; at Triton in requests); `where` a URL or
    NVML; `source` the word of it, as in `gpu_source`.
    """

    endpoint: str
    what: str
    source: str
    where: str
    value: float


class Gauges:
    """Of some endpoints. Does nothing until `start` or `look`."""

    def __init__(
        self, endpoints: Sequence[Endpoint], cards: Sequence[CardGauge], pages: Sequence[PageGauge]
    ) -> None:
        """In both, the first that tells something counts."""
        self._endpoints = {endpoint.url: endpoint for endpoint in endpoints}
        self._machine = Machine(endpoints, cards)
        self._named: dict[str, list[Watch]] = {}
        self._guessed: dict[str, list[Watch]] = {}
        self._watches: list[Watch] = []
        self._pollers: list[Poller] = []
        self._find_pages(endpoints, pages)

    def start(self) -> None:
        """Keep all up to date from now on, until `close`. Returns at once."""
        self._pollers = [Poller(each) for each in self._sources()]

    def gpu(self, url: str) -> GpuSample | None:
        """What the user named before this machine's own GPUs before what was found; what is slow comes last."""
        named, here, guessed = self._named.get(url, []), self._machine.gpu(url), self._guessed.get(url, [])
        samples = [
            *(sample for watch in named if (sample := watch.gpu())),
            *([(here, False)] if here else []),
            *(sample for watch in guessed if (sample := watch.gpu())),
        ]
        return min(samples, key=lambda each: each[1])[0] if samples else None

    def queue(self, url: str) -> QueueSample | None:
        """The server's own page before the one that the user named, which may be of many."""
        model = self._endpoints[url].model
        watches = (*self._guessed.get(url, []), *self._named.get(url, []))
        return next((sample for watch in watches if (sample := watch.queue(model))), None)

    def close(self) -> None:
        for poller in self._pollers:
            poller.close()

    def look(self) -> list[Readable]:
        """Read everything once, also what would not count. Takes seconds at most, and never raises."""
        with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
            threads.map(look_at, self._watches)
            look_at(self._machine)
            time.sleep(_APART_S)
            look_at(self._machine)
        found = [readable for url in self._endpoints for readable in self._readable(url)]
        for each in self._sources():
            each.close()
        return found

    def _sources(self) -> list[Source]:
        return [self._machine, *self._watches]

    def _readable(self, url: str) -> list[Readable]:
        model = self._endpoints[url].model
        found = []
        if here := self._machine.gpu(url):
            found.append(Readable(url, "GPU utilisation", here.source, _HERE, here.utilisation))
        for watch in (*self._named.get(url, []), *self._guessed.get(url, [])):
            if told := watch.gpu():
                sample = told[0]
                found.append(Readable(url, "GPU utilisation", sample.source, watch.url, sample.utilisation))
            if queue := watch.queue(model):
                found.append(Readable(url, "queue", queue.source, watch.url, queue.waiting))
        return found

    def _find_pages(self, endpoints: Sequence[Endpoint], kinds: Sequence[PageGauge]) -> None:
        """One watch a page, whatever it tells and of however many endpoints."""
        of_page: dict[tuple[str, str | None], list[Endpoint]] = {}
        for endpoint in endpoints:
            guessed = (place for kind in kinds for place in kind.places(endpoint))
            for url in filter(None, dict.fromkeys((endpoint.metrics_url, *guessed))):
                key_env = endpoint.api_key_env if sees_key(url, endpoint) else None
                of_page.setdefault((url, key_env), []).append(endpoint)
        for (url, key_env), its in of_page.items():
            named = any(endpoint.metrics_url == url for endpoint in its)
            watch = Watch(url, key_env, sorted({endpoint.model for endpoint in its}), kinds, named=named)
            self._watches.append(watch)
            for endpoint in its:
                by_endpoint = self._named if endpoint.metrics_url == url else self._guessed
                by_endpoint.setdefault(endpoint.url, []).append(watch)

"""What the pool's time goes into: now, and since the job began. Sums only grow, so any stretch is a difference."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from actors.messages import EndpointLoad, GpuSample, Load, Report

RECENT_S = 10.0  # that the newest load is over
STEADY_S = 5.0  # that tell more than the search before them
EVERY_S = 1.0  # between two places that a load can begin at


@dataclass(frozen=True, slots=True)
class EndpointSums:
    """An endpoint as it stands, and its sums so far. `gpu_s`: utilisation x seconds, over `seen_s`."""

    limit: int
    batch_rows: int
    paced_s: float
    requests: int
    errors: dict[str, int]
    moves: int
    gpu_s: float = 0.0
    seen_s: float = 0.0
    gpu_source: str | None = None


@dataclass(frozen=True, slots=True)
class _Sums:
    """Seconds: of the driver, of all embedders together, and of what these spent them on."""

    seconds: float = 0.0
    lived_s: float = 0.0
    starved_s: float = 0.0
    writing_s: float = 0.0
    busy_s: float = 0.0
    idle_cores_s: float = 0.0
    endpoints: Mapping[str, EndpointSums] = field(default_factory=dict)


class Account:
    """Told each report and each tick."""

    def __init__(self) -> None:
        self._now = _Sums()
        self._before: deque[_Sums] = deque([self._now])  # the first of them is about `RECENT_S` old
        self._steady: _Sums | None = None  # when the steady state began
        self._gpus: dict[str, tuple[float, float]] = {}  # utilisation x seconds, and seconds

    def report(self, before: Report | None, now: Report) -> None:
        """`before` is the last one of the same incarnation."""
        self._now = replace(
            self._now,
            lived_s=self._now.lived_s + now.uptime_s - (before.uptime_s if before else 0.0),
            starved_s=self._now.starved_s + now.starved_s - (before.starved_s if before else 0.0),
            writing_s=self._now.writing_s + now.write_wait_s - (before.write_wait_s if before else 0.0),
            busy_s=self._now.busy_s + now.loop_s - (before.loop_s if before else 0.0),
        )

    def tick(
        self,
        seconds: float,
        idle_cores: Iterable[float],
        gpus: Mapping[str, GpuSample | None],
        endpoints: Mapping[str, EndpointSums],
        *,
        steady: bool,
    ) -> None:
        """`seconds` since the last; the idle cores of each node, each endpoint's GPUs, and its other sums."""
        for url, gpu in gpus.items():
            if gpu:
                gpu_s, seen_s = self._gpus.get(url, (0.0, 0.0))
                self._gpus[url] = gpu_s + seconds * gpu.utilisation, seen_s + seconds
        self._now = replace(
            self._now,
            seconds=self._now.seconds + seconds,
            idle_cores_s=self._now.idle_cores_s + seconds * min(idle_cores, default=0.0),
            endpoints={url: self._seen(url, sums, gpus.get(url)) for url, sums in endpoints.items()},
        )
        if self._now.seconds - self._before[-1].seconds >= EVERY_S:
            self._before.append(self._now)
        if steady and self._steady is None:
            self._steady = self._now
        while len(self._before) > 1 and self._now.seconds - self._before[1].seconds >= RECENT_S:
            self._before.popleft()

    @property
    def recent(self) -> Load | None:
        """Over the last `RECENT_S`; None: that much was not seen yet."""
        first = self._before[0]
        return _between(first, self._now) if self._now.seconds - first.seconds >= RECENT_S else None

    @property
    def whole(self) -> Load:
        """Over the steady state, or over all there is where that was too short to tell anything."""
        long = self._steady and self._now.seconds - self._steady.seconds >= STEADY_S
        return _between(self._steady if self._steady and long else _Sums(), self._now)

    def _seen(self, url: str, sums: EndpointSums, gpu: GpuSample | None) -> EndpointSums:
        before = self._now.endpoints.get(url)
        gpu_s, seen_s = self._gpus.get(url, (0.0, 0.0))
        source = gpu.source if gpu else before.gpu_source if before else None
        return replace(sums, gpu_s=gpu_s, seen_s=seen_s, gpu_source=source)


def _between(first: _Sums, last: _Sums) -> Load:
    lived_s = max(1e-9, last.lived_s - first.lived_s)
    seconds = last.seconds - first.seconds
    return Load(
        seconds=seconds,
        starved=min(1.0, (last.starved_s - first.starved_s) / lived_s),
        writing=min(1.0, (last.writing_s - first.writing_s) / lived_s),
        busy=min(1.0, (last.busy_s - first.busy_s) / lived_s),
        idle_cores=(last.idle_cores_s - first.idle_cores_s) / max(1e-9, seconds),
        endpoints=tuple(
            _endpoint(url, first.endpoints.get(url), now, seconds) for url, now in last.endpoints.items()
        ),
    )


def _endpoint(url: str, first: EndpointSums | None, last: EndpointSums, seconds: float) -> EndpointLoad:
    before = first or EndpointSums(0, 0, 0.0, 0, {}, 0)
    errors = {kind: count - before.errors.get(kind, 0) for kind, count in last.errors.items()}
    seen_s = last.seen_s - before.seen_s
    return EndpointLoad(
        endpoint=url,
        limit=last.limit,
        batch_rows=last.batch_rows,
        paced=min(1.0, (last.paced_s - before.paced_s) / max(1e-9, seconds)),
        requests=last.requests - before.requests,
        errors={kind: count for kind, count in errors.items() if count},
        gpu=(last.gpu_s - before.gpu_s) / seen_s if seen_s > 0 else None,
        gpu_source=last.gpu_source,
        moves=last.moves - before.moves,
    )

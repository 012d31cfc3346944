"""What Prometheus is told of a job, through Ray's metrics. Nothing depends on them: bare Ray has none.

Ray puts `ray_` before each name and `_total` behind that of a counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.messages import DriverStatus, EndpointStatus

BOUND_BY = ("server", "client", "input", "output", "rate-limit")


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter is told its sum so far. `tags` are beside `output`, the folder or URL of the vectors."""

    name: str
    about: str
    tags: tuple[str, ...] = ("endpoint",)
    counts: bool = False

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{self.name}_total" if self.counts else f"ray_{self.name}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("rayembed_rows", "Rows that got a vector.", counts=True),
        Metric("rayembed_tokens", "Tokens of the texts that were embedded.", counts=True),
        Metric("rayembed_requests", "Requests sent, retries among them.", counts=True),
        Metric("rayembed_retries", "Requests sent again.", counts=True),
        Metric(
            "rayembed_errors", "Requests that brought no vectors, by class.", ("endpoint", "class"), counts=True
        ),
        Metric("rayembed_requests_in_flight", "Requests sent and not yet answered."),
        Metric("rayembed_requests_in_flight_limit", "As many requests may be in flight."),
        Metric("rayembed_request_texts_limit", "As many texts may be in one request."),
        Metric("rayembed_request_tokens_limit", "As many tokens, rows x longest, may be in one request."),
        Metric("rayembed_request_latency_seconds", "Of the requests that ended last.", ("endpoint", "quantile")),
        Metric("rayembed_gpu_utilization_ratio", "Of the endpoint's GPUs, 0 to 1."),
        Metric("rayembed_server_queue_inputs", "What waits at the server, by its own count."),
        Metric("rayembed_texts_waiting", "Texts that wait in the embedders.", ()),
        Metric("rayembed_embedders", "Actors that send requests.", ()),
        Metric("rayembed_client_cpu_seconds", "CPU of the embedders.", (), counts=True),
        Metric("rayembed_bound_by", "1 for what holds the job back just now, 0 for what does not.", ("by",)),
    )
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of one of `METRICS`."""

    name: str
    tags: Mapping[str, str]
    value: float


def samples(status: DriverStatus, lines: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Of a tick: the driver's status after it, and its telemetry lines. What is not known is left out."""
    found = [sample for endpoint in status.endpoints for sample in _of_endpoint(endpoint)]
    found += [sample for line in lines for sample in _of_line(line)]
    found.append(Sample("rayembed_texts_waiting", {}, status.window_rows))
    found.append(Sample("rayembed_embedders", {}, status.embedders))
    found.append(Sample("rayembed_client_cpu_seconds", {}, status.cpu_s))
    now = status.recently and status.recently.bound_by
    return found + [Sample("rayembed_bound_by", {"by": by}, float(by == now)) for by in BOUND_BY]


def _of_endpoint(status: EndpointStatus) -> Iterator[Sample]:
    at = {"endpoint": status.endpoint}
    yield Sample("rayembed_rows", at, status.rows)
    yield Sample("rayembed_tokens", at, status.tokens)
    yield Sample("rayembed_requests", at, status.requests)
    yield Sample("rayembed_retries", at, status.retries)
    for kind, count in status.errors.items():
        yield Sample("rayembed_errors", at | {"class": kind}, count)
    yield Sample("rayembed_requests_in_flight", at, status.inflight)
    yield Sample("rayembed_requests_in_flight_limit", at, status.limit)
    yield Sample("rayembed_request_texts_limit", at, status.batch_rows)
    yield Sample("rayembed_request_tokens_limit", at, status.batch_tokens)


def _of_line(line: Mapping[str, Any]) -> Iterator[Sample]:
    at = {"endpoint": line["endpoint"]}
    if line["gpu_util"] is not None:
        yield Sample("rayembed_gpu_utilization_ratio", at, line["gpu_util"])
    if line["queue"] is not None:
        yield Sample("rayembed_server_queue_inputs", at, line["queue"])
    for column, quantile in (("p50_ms", "0.5"), ("p99_ms", "0.99")):
        if line[column] is not None:
            tags = at | {"quantile": quantile}
            yield Sample("rayembed_request_latency_seconds", tags, line[column] / 1000)


class RayMetrics:
    """Where Ray exports metrics, these are among them; where it does not, nothing happens."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._made: dict[str, Any] = {}
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}
        self._works = True

    def publish(self, found: Iterable[Sample]) -> None:
        if not self._works:
            return
        try:
            for each in found:
                self._tell(each)
        except Exception:  # whatever Ray's metrics are up to is no reason to stop a job
            self._works = False

    def _tell(self, sample: Sample) -> None:
        from ray.util.metrics import Counter, Gauge

        metric = METRICS[sample.name]
        tags = {"output": self._output, **sample.tags}
        if sample.name not in self._made:
            kind = Counter if metric.counts else Gauge
            self._made[sample.name] = kind(metric.name, metric.about, tag_keys=("output", *metric.tags))
        if not metric.counts:
            self._made[sample.name].set(sample.value, tags)
            return
        key = sample.name, tuple(tags.values())
        if (new := sample.value - self._counted.get(key, 0.0)) > 0:
            self._made[sample.name].inc(new, tags)
            self._counted[key] = sample.value

"""The driver without Ray: reports in, shares of each endpoint's limit out. It is told the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from actors.driver.tuning import Decision, Observation, Policy
from actors.messages import (
    DriverStatus,
    EndpointReport,
    EndpointStatus,
    GpuSample,
    Order,
    Orders,
    Report,
)

SILENT_S = 5.0  # ten reports missed: its share goes to the others
RATE_SMOOTHING = 0.3  # weight of the newest tick in the rates that are shown
RAMP_S = 10.0  # after the first answer; the steady state begins then


@dataclass(slots=True)
class _Embedder:
    """What one process said last, and when; `seen` is what of it was already counted."""

    report: Report
    heard: float
    joined: float
    cpu_before_s: float  # used before its first report: starting up is not working
    seen: dict[str, EndpointReport] = field(default_factory=dict)


@dataclass(slots=True)
class _Endpoint:
    policy: Policy
    decision: Decision
    rows_per_s: float = 0.0
    tokens_per_s: float = 0.0
    latencies: tuple[float, ...] = ()
    answers: int = 0
    rows: int = 0
    unique_texts: int = 0
    tokens: int = 0
    requests: int = 0
    retries: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    ticked: dict[str, Any] = field(default_factory=dict)  # the totals at the last tick

    def forget(self, report: EndpointReport) -> None:
        """Count the work of before this driver began in no tick's observation."""
        for name in ("answers", "rows", "tokens"):
            self.ticked[name] = self.ticked.get(name, 0) + getattr(report, name)
        errors = self.ticked.setdefault("errors", {})
        for kind, count in report.errors.items():
            errors[kind] = errors.get(kind, 0) + count


class Controller:
    """One policy an endpoint; an endpoint's limit is shared among the embedders that are heard from."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._endpoints = {
            url: _Endpoint(policy, Decision(policy.start(), "start")) for url, policy in policies.items()
        }
        self._embedders: dict[str, _Embedder] = {}
        self._gone_cpu_s = 0.0
        self._began: float | None = None
        self._first_answer: float | None = None
        self._now = 0.0
        self._ticked = 0.0
        self._covered_s = 0.0  # of embedders' time, by the reports since the last tick
        self._starved_seen = 0.0
        self._gpu_samples: list[float] = []

    def report(self, report: Report, now: float) -> Orders:
        """Count what is new in the report and answer with this embedder's share."""
        self._began = self._began or now
        known = self._embedders.get(report.embedder)
        if known is None or known.report.incarnation != report.incarnation:
            self._gone_cpu_s += known.report.cpu_s if known else 0.0
            known = self._embedders[report.embedder] = _Embedder(report, now, now, report.cpu_s)
        self._covered_s += now - known.heard
        known.report, known.heard = report, now
        for each in report.endpoints:
            before = known.seen.get(each.endpoint)
            if before is None and report.uptime_s > SILENT_S:
                self._endpoints[each.endpoint].forget(each)
            self._count(self._endpoints[each.endpoint], before, each)
            known.seen[each.endpoint] = each
        if self._first_answer is None and any(endpoint.answers for endpoint in self._endpoints.values()):
            self._first_answer = now
        return self._orders(report.embedder, now)

    def tick(self, now: float) -> list[dict[str, Any]]:
        """Let each policy decide on what came since the last tick; the telemetry lines of this one."""
        before, self._ticked = self._ticked, now
        self._now = now
        seconds = now - before if before else 0.0
        if seconds <= 0 or not self._alive(now):
            return []
        gpu = self._gpu()
        if gpu and self._first_answer is not None and now - self._first_answer > RAMP_S:
            self._gpu_samples.append(gpu.utilisation)
        starved = self._starved_s() - self._starved_seen > 0.2 * seconds * len(self._alive(now))
        self._starved_seen = self._starved_s()
        # reports do not keep step with ticks: what they bring is of the time that they cover, not of the tick's
        settled = sum(each.joined <= before for each in self._alive(now).values())
        covered_s, self._covered_s = self._covered_s / max(1, settled), 0.0
        lines = []
        for url, endpoint in self._endpoints.items():
            seen = self._observe(url, endpoint, covered_s, starved, gpu)
            if covered_s > 0:
                endpoint.decision = endpoint.policy.decide(seen)
            lines.append(self._line(url, endpoint, gpu, seen, now))
        return lines

    def status(self) -> DriverStatus:
        alive = self._alive(self._now)
        seconds = self._now - (self._began or self._now)
        elapsed = max(1e-9, seconds) * max(1, len(alive))
        samples = self._gpu_samples
        cpu_s = self._gone_cpu_s + sum(each.report.cpu_s for each in self._embedders.values())
        return DriverStatus(
            endpoints=tuple(self._endpoint_status(url, each) for url, each in self._endpoints.items()),
            seconds=seconds,
            embedders=len(alive),
            gpu=self._gpu(),
            gpu_mean=float(np.mean(samples)) if samples else None,
            gpu_p10=float(np.quantile(samples, 0.1)) if samples else None,
            window_rows=sum(each.report.window_rows for each in alive.values()),
            starved_share=min(1.0, self._starved_s() / elapsed),
            write_wait_share=min(1.0, sum(each.report.write_wait_s for each in alive.values()) / elapsed),
            cpu_s=cpu_s,
            cpu_share=min(1.0, sum(each.report.cpu_s - each.cpu_before_s for each in alive.values()) / elapsed),
        )

    def _count(self, endpoint: _Endpoint, before: EndpointReport | None, now: EndpointReport) -> None:
        endpoint.answers += now.answers - (before.answers if before else 0)
        endpoint.rows += now.rows - (before.rows if before else 0)
        endpoint.unique_texts += now.unique_texts - (before.unique_texts if before else 0)
        endpoint.tokens += now.tokens - (before.tokens if before else 0)
        endpoint.requests += now.requests - (before.requests if before else 0)
        endpoint.retries += now.retries - (before.retries if before else 0)
        for kind, count in now.errors.items():
            new = count - (before.errors.get(kind, 0) if before else 0)
            endpoint.errors[kind] = endpoint.errors.get(kind, 0) + new
        endpoint.latencies += now.latencies_s

    def _orders(self, embedder: str, now: float) -> Orders:
        names = sorted(self._alive(now))
        place = names.index(embedder)
        return Orders(
            {
                url: Order(
                    limit=_share(endpoint.decision.setting.limit, len(names), place),
                    batch_rows=endpoint.decision.setting.batch_rows,
                    batch_tokens=endpoint.decision.setting.batch_tokens,
                )
                for url, endpoint in self._endpoints.items()
            }
        )

    def _alive(self, now: float) -> dict[str, _Embedder]:
        return {name: each for name, each in self._embedders.items() if now - each.heard <= SILENT_S}

    def _starved_s(self) -> float:
        return sum(each.report.starved_s for each in self._embedders.values())

    def _gpu(self) -> GpuSample | None:
        """The mean over the nodes that see a GPU, one embedder speaking for each node."""
        by_node = {each.report.node: each.report.gpu for each in self._alive(self._now).values() if each.report.gpu}
        samples = [sample for sample in by_node.values() if sample]
        if not samples:
            return None
        mean = sum(sample.utilisation for sample in samples) / len(samples)
        return GpuSample(mean, samples[0].source, max(sample.age_s for sample in samples))

    def _observe(
        self, url: str, endpoint: _Endpoint, seconds: float, starved: bool, gpu: GpuSample | None
    ) -> Observation:
        totals = {"answers": endpoint.answers, "rows": endpoint.rows, "tokens": endpoint.tokens}
        before = endpoint.ticked
        errors = {
            kind: count - before.get("errors", {}).get(kind, 0)
            for kind, count in endpoint.errors.items()
            if count > before.get("errors", {}).get(kind, 0)
        }
        endpoint.ticked = {**totals, "errors": dict(endpoint.errors)}
        seen = Observation(
            seconds=seconds,
            **{name: total - before.get(name, 0) for name, total in totals.items()},
            inflight=self._inflight(url),
            starved=starved,
            gpu=gpu,
            errors=errors,
            latencies_s=endpoint.latencies,
        )
        endpoint.latencies = ()
        if seconds > 0:
            endpoint.rows_per_s += RATE_SMOOTHING * (seen.rows / seconds - endpoint.rows_per_s)
            endpoint.tokens_per_s += RATE_SMOOTHING * (seen.tokens / seconds - endpoint.tokens_per_s)
        return seen

    def _inflight(self, url: str) -> int:
        alive = self._alive(self._now).values()
        return sum(each.seen[url].inflight for each in alive if url in each.seen)

    def _line(
        self, url: str, endpoint: _Endpoint, gpu: GpuSample | None, seen: Observation, now: float
    ) -> dict[str, Any]:
        setting = endpoint.decision.setting
        return {
            "t": round(now - (self._began or now), 3),
            "endpoint": url,
            "limit": setting.limit,
            "inflight": seen.inflight,
            "batch_rows": setting.batch_rows,
            "batch_tokens": setting.batch_tokens,
            "rows_per_s": round(seen.rows / seen.seconds, 1) if seen.seconds else 0.0,
            "tokens_per_s": round(seen.tokens / seen.seconds, 1) if seen.seconds else 0.0,
            "gpu_util": round(gpu.utilisation, 3) if gpu else None,
            "gpu_source": gpu.source if gpu else None,
            "queue": sum(each.report.window_rows for each in self._alive(now).values()),
            "p50_ms": _quantile_ms(seen.latencies_s, 0.5),
            "p99_ms": _quantile_ms(seen.latencies_s, 0.99),
            "errors": seen.errors,
            "decision": endpoint.decision.reason,
        }

    def _endpoint_status(self, url: str, endpoint: _Endpoint) -> EndpointStatus:
        return EndpointStatus(
            endpoint=url,
            inflight=self._inflight(url),
            **asdict(endpoint.decision.setting),
            rows_per_s=endpoint.rows_per_s,
            tokens_per_s=endpoint.tokens_per_s,
            decision=endpoint.decision.reason,
            rows=endpoint.rows,
            unique_texts=endpoint.unique_texts,
            tokens=endpoint.tokens,
            requests=endpoint.requests,
            retries=endpoint.retries,
            errors=dict(endpoint.errors),
        )


def _share(limit: int, pool: int, place: int) -> int:
    """Shares that differ by at most one and add up to `limit`."""
    return limit // pool + (place < limit % pool)


def _quantile_ms(latencies_s: tuple[float, ...], share: float) -> float | None:
    return round(float(np.quantile(latencies_s, share)) * 1000, 1) if latencies_s else None

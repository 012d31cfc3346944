"""The driver without Ray: reports in, shares of each endpoint's limit out. It is told the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from actors.driver.gauges import gpu_of, mean_gpu, queue_of
from actors.driver.load import Account, EndpointSums
from actors.driver.pool_size import NodeLoad, PoolSize
from actors.driver.shares import Shares, fair_share
from actors.driver.spread import Spread
from actors.driver.tuning import Bounds, Decision, Observation, Policy
from actors.driver.verdict import Known, judge, judge_recent
from actors.messages import (
    Allowance,
    Completion,
    DriverStatus,
    Endpoint,
    EndpointReport,
    EndpointStatus,
    Failure,
    GpuSample,
    Order,
    Orders,
    QueueSample,
    Report,
    Verdict,
)

SILENT_S = 5.0  # twenty reports missed: its share goes to the others
RATE_SMOOTHING = 0.3  # weight of the newest tick in the rates that are shown
RAMP_S = 10.0  # after the first answer; the steady state begins then
PLACES_S = 0.05  # for which the places in the pool hold, unless somebody comes or leaves
NEW_S = 1.0  # in which a driver that has just been restarted raises nobody's limit: it has not heard of all yet
REPORT_S, REPORTS_PER_S = 0.25, 1000  # a report now and then; less often where there are more embedders


@dataclass(slots=True)
class _Embedder:
    """What one process said last, and when; `seen` is what of it was already counted."""

    report: Report
    heard: float
    loop_share: float = 0.0  # of a core, between its last two reports
    seen: dict[str, EndpointReport] = field(default_factory=dict)

    @property
    def ahead_s(self) -> float:
        """How far this driver's clock is ahead of the embedder's, and the report's way with it."""
        return self.heard - self.report.sent_at


@dataclass(slots=True)
class _Endpoint:
    policy: Policy
    decision: Decision
    shares: Shares = field(default_factory=Shares)
    version: int = 1  # of the decision's setting
    completions: list[Completion] = field(default_factory=list)  # since the last tick
    failures: list[Failure] = field(default_factory=list)
    copies: int = 0  # rows that got a vector without being sent, since the last tick
    rows_in_tick: int = 0
    rows_per_s: float = 0.0
    tokens_per_s: float = 0.0
    answers: int = 0
    rows: int = 0
    unique_texts: int = 0
    tokens: int = 0
    requests: int = 0
    retries: int = 0
    truncated: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    allowance: Allowance | None = None  # the newest
    paced_s: float = 0.0

    def sums(self) -> EndpointSums:
        now = self.decision.setting
        return EndpointSums(now.limit, now.batch_rows, self.paced_s, self.requests, dict(self.errors), self.version)

    def decide(self, seen: Observation) -> None:
        before = self.decision.setting
        self.decision = self.policy.decide(seen)
        self.paced_s += seen.seconds if self.decision.paced else 0.0
        now = self.decision.setting
        self.version += (now.tuned, now.canary) != (before.tuned, before.canary)


class Controller:
    """One policy an endpoint; an endpoint's limit is shared among the embedders that are heard from."""

    def __init__(self, policies: Mapping[str, Policy], known: Mapping[str, Known] | None = None) -> None:
        """Both are by URL; what is known of the servers is for the advice alone."""
        self._known = known or {url: Known(Endpoint(url, "", "", None), Bounds()) for url in policies}
        self._account = Account()
        self._endpoints = {
            url: _Endpoint(policy, Decision(policy.start(), "start")) for url, policy in policies.items()
        }
        self._embedders: dict[str, _Embedder] = {}
        self._gone_cpu_s = 0.0
        self._gone_reused = 0  # rows
        self._began: float | None = None
        self._first_answer: float | None = None
        self._now = 0.0
        self._ticked = 0.0
        self._starved_seen = 0.0
        self._gpu: GpuSample | None = None  # as of the last tick
        self._gpu_source: str | None = None
        self._gpu_spread = Spread()
        self._size = PoolSize()
        self._rows_seen = 0
        self._places: dict[str, int] = {}  # of those that are heard from
        self._placed = 0.0  # when
        self._heard_all = 0.0  # from when on
        self._recently: Verdict | None = None  # as of the last tick

    def report(self, report: Report, now: float) -> Orders:
        """Count what is new in the report and answer with this embedder's share."""
        if self._began is None:
            self._began = now
            self._heard_all = now + (NEW_S if report.uptime_s > NEW_S else 0.0)
        known = self._embedders.get(report.embedder)
        again = known is not None and known.report.incarnation == report.incarnation
        self._account.report(known.report if known and again else None, report)
        if known is None or not again:
            self._gone_cpu_s += known.report.cpu_s if known else 0.0
            self._gone_reused += known.report.rows_reused if known else 0
            known = self._embedders[report.embedder] = _Embedder(report, now)
        if (passed := report.uptime_s - known.report.uptime_s) > 0:
            known.loop_share = (report.loop_s - known.report.loop_s) / passed
        known.report, known.heard = report, now
        for each in report.endpoints:
            endpoint = self._endpoints[each.endpoint]
            self._count(endpoint, known.seen.get(each.endpoint), each)
            endpoint.completions += [replace(event, at=event.at + known.ahead_s) for event in each.completions]
            endpoint.failures += [replace(event, at=event.at + known.ahead_s) for event in each.failures]
            known.seen[each.endpoint] = each
            if each.allowance:
                allowance = replace(each.allowance, at=each.allowance.at + known.ahead_s)
                endpoint.allowance = max(endpoint.allowance or allowance, allowance, key=lambda told: told.at)
        if self._first_answer is None and any(endpoint.answers for endpoint in self._endpoints.values()):
            self._first_answer = now
        return self._orders(report, now)

    def tick(self, now: float) -> list[dict[str, Any]]:
        """Let each policy decide on what came since the last tick; the telemetry lines of this one."""
        seconds = now - self._ticked if self._ticked else 0.0
        self._ticked = self._now = now
        alive = self._alive(now)
        if seconds <= 0 or not alive:
            self._gpu = None
            return []
        gpus = {url: self._gpu_of(url) for url in self._endpoints}
        self._gpu = mean_gpu(gpu for gpu in gpus.values() if gpu)
        if self._gpu:
            self._gpu_source = self._gpu.source
            if self._first_answer is not None and now - self._gpu.age_s - self._first_answer > RAMP_S:
                self._gpu_spread.add(self._gpu.utilisation)
        starved = self._starved_s() - self._starved_seen > 0.2 * seconds * len(alive)
        self._starved_seen = self._starved_s()
        rows = self._rows_reused() + sum(endpoint.rows for endpoint in self._endpoints.values())
        self._size.look(_loads(alive.values()), (rows - self._rows_seen) / seconds, now)
        self._rows_seen = rows
        observed = {}
        for url, endpoint in self._endpoints.items():
            observed[url] = self._observe(url, endpoint, seconds, starved, gpus[url])
            endpoint.decide(observed[url])
        self._look(seconds, gpus)
        return [self._line(url, self._endpoints[url], seen) for url, seen in observed.items()]

    def _look(self, seconds: float, gpus: Mapping[str, GpuSample | None]) -> None:
        """What holds the job back just now."""
        idle: dict[str, float] = {}
        for each in self._alive(self._now).values():
            idle[each.report.node] = each.report.idle_cores
        steady = self._first_answer is not None and self._now - self._first_answer > RAMP_S
        sums = {url: each.sums() for url, each in self._endpoints.items()}
        self._account.tick(seconds, idle.values(), gpus, sums, steady=steady)
        self._recently = judge_recent(self._account.recent, self._known)

    def status(self) -> DriverStatus:
        counted = list(self._alive(self._now).values()) or self._left(self._now)
        seconds = self._now - (self._began or self._now)
        cpu_s = self._gone_cpu_s + sum(each.report.cpu_s for each in self._embedders.values())
        return DriverStatus(
            endpoints=tuple(self._endpoint_status(url, each) for url, each in self._endpoints.items()),
            seconds=seconds,
            embedders=len(counted),
            gpu=self._gpu,
            gpu_mean=self._gpu_spread.mean,
            gpu_p10=self._gpu_spread.quantile(0.1),
            window_rows=sum(each.report.window_rows for each in counted),
            cpu_s=cpu_s,
            verdict=judge(self._account.whole, self._known),
            recently=self._recently,
            wanted=self._size.wanted,
            gpu_source=self._gpu_source,
            rows_reused=self._rows_reused(),
        )

    def _count(self, endpoint: _Endpoint, before: EndpointReport | None, now: EndpointReport) -> None:
        endpoint.answers += now.answers - (before.answers if before else 0)
        if before:
            endpoint.copies += (now.rows - before.rows) - (now.unique_texts - before.unique_texts)
        endpoint.rows += now.rows - (before.rows if before else 0)
        endpoint.unique_texts += now.unique_texts - (before.unique_texts if before else 0)
        endpoint.tokens += now.tokens - (before.tokens if before else 0)
        endpoint.requests += now.requests - (before.requests if before else 0)
        endpoint.retries += now.retries - (before.retries if before else 0)
        endpoint.truncated += now.truncated - (before.truncated if before else 0)
        for kind, count in now.errors.items():
            new = count - (before.errors.get(kind, 0) if before else 0)
            endpoint.errors[kind] = endpoint.errors.get(kind, 0) + new

    def _orders(self, report: Report, now: float) -> Orders:
        name = report.embedder
        if name not in self._places or report.leaving or now - self._placed > PLACES_S:
            self._placed, self._places = now, {each: i for i, each in enumerate(sorted(self._alive(now)))}
            for endpoint in self._endpoints.values():
                endpoint.shares.keep(self._places.keys())
        if name not in self._places:  # it is leaving
            return Orders({})
        told = {each.endpoint: each for each in report.endpoints}
        pool = len(self._places)
        orders = {}
        for url, endpoint in self._endpoints.items():
            fair = fair_share(endpoint.decision.setting.limit, pool, self._places[name])
            seen = told.get(url)
            most = min(fair, seen.limit) if seen and now < self._heard_all else fair
            limit = endpoint.shares.give(name, most, endpoint.decision.setting.limit, seen.inflight if seen else 0)
            orders[url] = _order(endpoint, limit, fair, first=self._places[name] == 0)
        return Orders(orders, max(REPORT_S, pool / REPORTS_PER_S))

    def _alive(self, now: float) -> dict[str, _Embedder]:
        return {
            name: each
            for name, each in self._embedders.items()
            if now - each.heard <= SILENT_S and not each.report.leaving
        }

    def _left(self, now: float) -> list[_Embedder]:
        """Those that were told to stop only just now."""
        return [each for each in self._embedders.values() if each.report.leaving and now - each.heard <= SILENT_S]

    def _rows_reused(self) -> int:
        return self._gone_reused + sum(each.report.rows_reused for each in self._embedders.values())

    def _starved_s(self) -> float:
        return sum(each.report.starved_s for each in self._embedders.values())

    def _gpu_of(self, url: str) -> GpuSample | None:
        return gpu_of(
            (each.report.node, replace(told, age_s=told.age_s + self._now - each.heard))
            for each in self._alive(self._now).values()
            if url in each.seen and (told := each.seen[url].gpu)
        )

    def _queue_of(self, url: str) -> QueueSample | None:
        return queue_of(
            (each.heard, queue)
            for each in self._alive(self._now).values()
            if url in each.seen and (queue := each.seen[url].queue)
        )

    def _observe(
        self, url: str, endpoint: _Endpoint, seconds: float, starved: bool, gpu: GpuSample | None
    ) -> Observation:
        alive = self._alive(self._now).values()
        told = [(each.ahead_s, each.seen.get(url)) for each in alive]
        obeyed = [ahead_s + last.obeyed_at for ahead_s, last in told if last and last.order == endpoint.version]
        seen = Observation(
            now=self._now,
            seconds=seconds,
            completions=tuple(endpoint.completions),
            failures=tuple(endpoint.failures),
            inflight=self._inflight(url),
            starved=starved,
            complete_to=min(each.heard for each in alive),
            obeyed_since=max(obeyed) if len(obeyed) == len(told) else None,
            gpu=gpu,
            allowance=endpoint.allowance,
        )
        endpoint.rows_in_tick = endpoint.copies + sum(event.rows for event in seen.completions)
        endpoint.completions, endpoint.failures, endpoint.copies = [], [], 0
        tokens = sum(event.tokens for event in seen.completions)
        endpoint.rows_per_s += RATE_SMOOTHING * (endpoint.rows_in_tick / seconds - endpoint.rows_per_s)
        endpoint.tokens_per_s += RATE_SMOOTHING * (tokens / seconds - endpoint.tokens_per_s)
        return seen

    def _inflight(self, url: str) -> int:
        alive = self._alive(self._now).values()
        return sum(each.seen[url].inflight for each in alive if url in each.seen)

    def _line(self, url: str, endpoint: _Endpoint, seen: Observation) -> dict[str, Any]:
        """One of telemetry. What cannot be read is null.

        `gpu_util` is of the endpoint's GPUs, `gpu_age_s` seconds ago; `queue` is what waits at the server and
        `queue_running` what it works on, by its own count; `window_rows` are texts that wait in the embedders, for
        any endpoint, and `open_rows` the settled rows of their parts. `bound_by` and `advice` are on the job in
        these seconds.
        """
        setting = endpoint.decision.setting
        queue = self._queue_of(url)
        latencies_s = [event.latency_s for event in seen.completions]
        return {
            "t": round(seen.now - (self._began or seen.now), 3),
            "endpoint": url,
            "limit": setting.limit,
            "inflight": seen.inflight,
            "batch_rows": setting.batch_rows,
            "batch_tokens": setting.batch_tokens,
            "rows_per_s": round(endpoint.rows_in_tick / seen.seconds, 1),
            "tokens_per_s": round(sum(event.tokens for event in seen.completions) / seen.seconds, 1),
            "gpu_util": round(seen.gpu.utilisation, 3) if seen.gpu else None,
            "gpu_source": seen.gpu.source if seen.gpu else None,
            "gpu_age_s": round(seen.gpu.age_s, 1) if seen.gpu else None,
            "queue": queue.waiting if queue else None,
            "queue_running": queue.running if queue else None,
            "window_rows": sum(each.report.window_rows for each in self._alive(seen.now).values()),
            "open_rows": sum(each.report.open_rows for each in self._alive(seen.now).values()),
            "p50_ms": _quantile_ms(latencies_s, 0.5),
            "p99_ms": _quantile_ms(latencies_s, 0.99),
            "truncated": endpoint.truncated,
            "errors": dict(Counter(event.kind for event in seen.failures)),
            "decision": endpoint.decision.reason,
            "bound_by": self._recently.bound_by if self._recently else None,
            "advice": self._recently.advice if self._recently else None,
        }

    def _endpoint_status(self, url: str, endpoint: _Endpoint) -> EndpointStatus:
        return EndpointStatus(
            endpoint=url,
            inflight=self._inflight(url),
            limit=endpoint.decision.setting.limit,
            batch_rows=endpoint.decision.setting.batch_rows,
            batch_tokens=endpoint.decision.setting.batch_tokens,
            rows_per_s=endpoint.rows_per_s,
            tokens_per_s=endpoint.tokens_per_s,
            decision=endpoint.decision.reason,
            rows=endpoint.rows,
            unique_texts=endpoint.unique_texts,
            tokens=endpoint.tokens,
            requests=endpoint.requests,
            retries=endpoint.retries,
            errors=dict(endpoint.errors),
            truncated=endpoint.truncated,
            paced_s=endpoint.paced_s,
        )


def _order(endpoint: _Endpoint, limit: int, fair: int, *, first: bool) -> Order:
    """For an embedder whose share is `fair`, of which it may have `limit` now; the first one sends the canary."""
    setting = endpoint.decision.setting
    part = max(1, fair) / max(1, setting.limit)  # one that has no place may still have some under way
    return Order(
        limit=limit,
        batch_rows=setting.batch_rows,
        batch_tokens=setting.batch_tokens,
        version=endpoint.version,
        canary=setting.canary,
        canary_tokens=setting.canary_tokens if first else None,
        by_chance=setting.by_chance,
        requests_per_s=setting.requests_per_s and part * setting.requests_per_s,
        tokens_per_s=setting.tokens_per_s and part * setting.tokens_per_s,
    )


def _loads(embedders: Iterable[_Embedder]) -> list[NodeLoad]:
    by_node: dict[str, list[_Embedder]] = {}
    for each in embedders:
        by_node.setdefault(each.report.node, []).append(each)
    return [
        NodeLoad(
            node=node,
            embedders=len(there),
            loop_share=sum(each.loop_share for each in there) / len(there),
            idle_cores=max(there, key=lambda each: each.heard).report.idle_cores,
        )
        for node, there in by_node.items()
    ]


def _quantile_ms(latencies_s: Sequence[float], share: float) -> float | None:
    return round(float(np.quantile(latencies_s, share)) * 1000, 1) if latencies_s else None

"""The client in simulated time: a source of texts, embedders with shares of the limit, and a driver that ticks.

Late as the real one: an embedder reports every `REPORT_S` and gets its order in answer; what it did since the last
report is known to the driver only then.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from actors.driver.tuning.base import Decision, Observation, Policy, Setting
from actors.embedder.cuts import cut
from actors.embedder.line import NEARLY
from actors.embedder.pace import Pace
from actors.embedder.valve import Valve
from actors.messages import Completion, Failure, GpuSample, Order
from tests.simulation.engine import Engine
from tests.simulation.servers import Answer, Request, Server

EMBEDDERS = 4
REPORT_S = 0.4
TICK_S = 0.25
WINDOW_ROWS = 24_000
MOST_WAITING = 8192  # texts, of a source that is slow
FIRST_LOOK_S = 0.5  # a gauge that is read seldom has a reading there
BACKOFF_S, MOST_BACKOFF_S = 0.25, 10.0


class Source:
    """Endless texts of lognormal length, taken a generation at a time and cut like the embedders' window.

    `grows` multiplies the median at a time. `texts_per_s` limits what is there at a time.
    """

    def __init__(
        self,
        engine: Engine,
        seed: int,
        median: float = 60,
        sigma: float = 0.8,
        longest: int = 512,
        grows: Callable[[float], float] | None = None,
        texts_per_s: Callable[[float], float] | None = None,
    ) -> None:
        self._engine = engine
        self._numbers = np.random.default_rng(seed)
        self._median, self._sigma, self._longest = median, sigma, longest
        self._grows, self._texts_per_s = grows, texts_per_s
        self._window: list[int] = []  # by length
        self._cuts: list[tuple[int, int]] = []  # of it, the next one last
        self._cut_to = (0, 0)
        self._made = self._taken = 0.0
        self._seen = 0.0

    def starved(self) -> bool:
        if self._texts_per_s is None:
            return False
        now = self._engine.now
        self._made += self._texts_per_s(now) * (now - self._seen)
        self._made = min(self._made, self._taken + MOST_WAITING)
        self._seen = now
        return self._made - self._taken < 256

    def take(self, most_rows: int, most_tokens: int, largest: bool = False) -> list[int]:
        """Lengths of one request: rows x longest within `most_tokens`, unless one text alone is longer."""
        if largest or not self._cuts or self._cut_to != (most_rows, most_tokens):
            self._begin(most_rows, most_tokens)
        if largest:
            self._cuts.sort(key=lambda cut: (cut[1] - cut[0]) * self._window[cut[1] - 1])
        start, stop = self._cuts.pop()
        self._taken += stop - start
        return self._window[start:stop]

    def _begin(self, most_rows: int, most_tokens: int) -> None:
        left = [length for start, stop in self._cuts for length in self._window[start:stop]]
        median = self._median * (self._grows(self._engine.now) if self._grows else 1.0)
        lengths = self._numbers.lognormal(math.log(median), self._sigma, WINDOW_ROWS - len(left)).astype(int) + 3
        self._window = sorted(left + np.minimum(lengths, self._longest).tolist())
        self._cut_to = most_rows, most_tokens
        self._cuts = cut(self._window, most_rows, most_tokens)


@dataclass(slots=True)
class _Embedder:
    index: int
    setting: Setting
    version: int
    order: Order
    valve: Valve
    share: int = 0
    most_rows: int | None = None  # learnt
    inflight: int = 0
    sent: int = 0  # on their way; the others in flight wait to be sent again
    told_inflight: int = 0
    heard: float = 0.0
    completions: list[Completion] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    canary: tuple[int, int] | None = None  # number and tokens, not yet sent
    pace: Pace = field(default_factory=Pace)
    wakes_at: float = math.inf
    starved_since: float | None = None
    starved_s: float = 0.0


@dataclass(slots=True)
class Tally:
    """What the run amounted to. `completions` are in order of time."""

    completions: list[Completion] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    decisions: list[tuple[float, Decision, float | None]] = field(default_factory=list)
    most_inflight: int = 0

    def rate(self, start: float, stop: float) -> float:
        """Tokens/s delivered."""
        return sum(each.tokens for each in self.completions if start <= each.at < stop) / (stop - start)

    def reached(self, rate: float, stop: float, seconds: float = 2.0) -> float | None:
        """When first so many tokens/s were delivered over the next `seconds`."""
        times = [each.at for each in self.completions]
        sums = np.cumsum([0] + [each.tokens for each in self.completions])
        start = 0.0
        while start + seconds <= stop:
            bounds = bisect_right(times, start), bisect_right(times, start + seconds)
            if (sums[bounds[1]] - sums[bounds[0]]) / seconds >= rate:
                return start
            start += 0.1
        return None

    def count(self, kind: str) -> int:
        return sum(each.kind == kind for each in self.failures)

    def p99(self, start: float) -> float:
        latencies = [each.latency_s for each in self.completions if each.at >= start]
        return float(np.quantile(latencies, 0.99)) if latencies else math.inf


class Pool:
    """Embedders and driver at one server. `gauge_s`: how often the GPU is read; None: never."""

    def __init__(
        self,
        engine: Engine,
        seed: int,
        source: Source,
        server: Server,
        policy: Policy,
        rtt_s: float = 0.001,
        jitter: float = 0.1,
        gauge_s: float | None = 0.5,
    ) -> None:
        self._engine, self._source, self._server, self._policy = engine, source, server, policy
        self._chance = random.Random(seed)
        self._rtt_s, self._jitter = rtt_s, jitter
        self.tally = Tally()
        self._decision = Decision(policy.start(), "start")
        self._version = 0
        self._obeyed: dict[int, float] = dict.fromkeys(range(EMBEDDERS), 0.0)
        self._canary_given = 0
        self._arrived: tuple[list[Completion], list[Failure]] = [], []
        self._gauge: tuple[float, float] | None = None  # utilisation, when
        self._looked = 0.0
        self._busy_s = 0.0
        self._ticked = self._starved_s = 0.0
        start = self._decision.setting
        order = Order(start.limit, start.batch_rows, start.batch_tokens)
        self._embedders = [_Embedder(index, start, 0, order, Valve(order)) for index in range(EMBEDDERS)]
        for embedder in self._embedders:
            self._order(embedder)
            engine.at(0.0, lambda e=embedder: self._pump(e))  # type: ignore[misc]
            engine.at(REPORT_S * (1 + embedder.index) / EMBEDDERS, lambda e=embedder: self._report(e))  # type: ignore[misc]
        engine.at(TICK_S, self._tick)
        if gauge_s:
            engine.at(min(FIRST_LOOK_S, gauge_s), lambda: self._read_gauge(gauge_s))

    # the driver

    def _tick(self) -> None:
        now = self._engine.now
        starved = sum(self._starving_s(each) for each in self._embedders)
        completions, failures = self._arrived
        self._arrived = [], []
        gauge = self._gauge
        obeyed = max(self._obeyed.values()) if len(self._obeyed) == EMBEDDERS else None
        seen = Observation(
            now=now,
            seconds=now - self._ticked,
            completions=tuple(completions),
            failures=tuple(failures),
            inflight=sum(each.told_inflight for each in self._embedders),
            starved=starved - self._starved_s > 0.2 * EMBEDDERS * (now - self._ticked),
            complete_to=min(each.heard for each in self._embedders),
            obeyed_since=obeyed,
            gpu=GpuSample(gauge[0], "nvml", now - gauge[1]) if gauge else None,
        )
        self._ticked, self._starved_s = now, starved
        before, self._decision = self._decision, self._policy.decide(seen)
        if self._decision.setting != before.setting:
            self._version += 1
            self._obeyed.clear()
        self.tally.decisions.append((now, self._decision, gauge[0] if gauge else None))
        self._engine.after(TICK_S, self._tick)

    def _read_gauge(self, period: float) -> None:
        busy = self._server.meter.busy_s()
        passed = self._engine.now - self._looked
        self._gauge = (round(min(1.0, (busy - self._busy_s) / passed), 2), self._engine.now)
        self._busy_s, self._looked = busy, self._engine.now
        self._engine.after(period, lambda: self._read_gauge(period))

    # an embedder

    def _report(self, embedder: _Embedder) -> None:
        now = self._engine.now
        self._arrived[0].extend(embedder.completions)
        self._arrived[1].extend(embedder.failures)
        embedder.completions, embedder.failures = [], []
        embedder.told_inflight, embedder.heard = embedder.inflight, now
        self._order(embedder)
        self._pump(embedder)
        self._engine.after(REPORT_S * self._chance.uniform(0.9, 1.1), lambda: self._report(embedder))

    def _order(self, embedder: _Embedder) -> None:
        setting = self._decision.setting
        embedder.share = setting.limit // EMBEDDERS + (embedder.index < setting.limit % EMBEDDERS)
        if setting.canary != self._canary_given and embedder.share:
            self._canary_given = setting.canary
            if setting.canary_tokens:
                embedder.canary = (setting.canary, setting.canary_tokens)
        embedder.setting = setting
        share = max(1, embedder.share) / max(1, setting.limit)
        embedder.order = Order(
            embedder.share,
            setting.batch_rows,
            setting.batch_tokens,
            self._version,
            by_chance=setting.by_chance,
            requests_per_s=setting.requests_per_s and share * setting.requests_per_s,
            tokens_per_s=setting.tokens_per_s and share * setting.tokens_per_s,
        )
        embedder.valve.obey(embedder.order, self._engine.now)
        if embedder.version != self._version or embedder.index not in self._obeyed:
            embedder.version = self._version
            self._obeyed[embedder.index] = self._engine.now

    def _starving_s(self, embedder: _Embedder) -> float:
        since = embedder.starved_since
        return embedder.starved_s + (self._engine.now - since if since is not None else 0.0)

    def _wake(self, embedder: _Embedder, seconds: float) -> None:
        at = self._engine.now + seconds

        def wake() -> None:
            if embedder.wakes_at == at:
                embedder.wakes_at = math.inf
            self._pump(embedder)

        if at < embedder.wakes_at:
            embedder.wakes_at = at
            self._engine.at(at, wake)

    def _pump(self, embedder: _Embedder) -> None:
        now, setting = self._engine.now, embedder.setting
        while embedder.inflight < embedder.valve.allowed(now):
            if shut_s := embedder.valve.shut_s(now):
                return self._wake(embedder, shut_s)
            if (wait_s := embedder.pace.wait_s(embedder.order, now)) > 1e-9:
                return self._wake(embedder, wait_s)
            if self._source.starved():
                embedder.starved_since = now if embedder.starved_since is None else embedder.starved_since
                return self._wake(embedder, 0.02)
            if embedder.starved_since is not None:
                embedder.starved_s = self._starving_s(embedder)
                embedder.starved_since = None
            canary, embedder.canary = embedder.canary, None
            most_rows = min(setting.batch_rows, embedder.most_rows or setting.batch_rows)
            lengths = self._source.take(
                most_rows, canary[1] if canary else setting.batch_tokens, largest=canary is not None
            )
            request = Request(lengths, canary[0] if canary else 0)
            embedder.inflight += 1
            embedder.valve.start(now)
            inflight = sum(each.inflight for each in self._embedders)
            self.tally.most_inflight = max(self.tally.most_inflight, inflight)
            self._send(embedder, deque([request]))
        return self._wake(embedder, embedder.valve.wait_s(now)) if embedder.inflight < embedder.share else None

    def _send(self, embedder: _Embedder, requests: deque[Request]) -> None:
        """Bring all of `requests`, one after another, in one place in flight."""
        request = requests[0]
        sent = self._engine.now
        embedder.pace.take(embedder.order, request.tokens, sent)
        embedder.sent += 1

        def come(answer: Answer) -> None:
            self._engine.after(self._way_s(), lambda: self._finish(embedder, requests, sent, answer))

        self._engine.after(self._way_s(), lambda: self._server.arrive(request, come))

    def _send_again(self, embedder: _Embedder, requests: deque[Request]) -> None:
        now, most_rows = self._engine.now, embedder.setting.batch_rows
        request, tokens = requests[0], NEARLY * embedder.setting.batch_tokens
        if request.rows > most_rows:  # the order has changed meanwhile
            self._divide(requests, requests.popleft(), most_rows)
        elif request.rows > 1 and request.size > tokens and not request.canary:
            self._divide(requests, requests.popleft(), max(1, int(request.rows * tokens / request.size)))
        wait_s = max(embedder.valve.shut_s(now), embedder.pace.wait_s(embedder.order, now))
        if embedder.sent < max(1, embedder.valve.allowed(now)) and wait_s < 1e-9:
            self._send(embedder, requests)
        else:
            self._engine.after(max(0.01, wait_s), lambda: self._send_again(embedder, requests))

    def _way_s(self) -> float:
        return 0.5 * self._rtt_s * (1 + self._jitter * self._chance.expovariate(1.0))

    def _finish(self, embedder: _Embedder, requests: deque[Request], sent: float, answer: Answer) -> None:
        now = self._engine.now
        request = requests[0]
        embedder.sent -= 1
        if answer.kind is None:
            requests.popleft()
            done = Completion(now, now - sent, request.rows, request.tokens, request.size, request.canary)
            embedder.completions.append(done)
            self.tally.completions.append(done)
        else:
            wait = self._fail(embedder, requests, sent, answer)
            if wait:
                self._engine.after(wait, lambda: self._send_again(embedder, requests))
                return
        if requests:
            self._send(embedder, requests)
            return
        embedder.inflight -= 1
        self._pump(embedder)

    def _fail(self, embedder: _Embedder, requests: deque[Request], sent: float, answer: Answer) -> float:
        """Count the failure; say how long to wait before the request goes again. Halve it if it is to blame."""
        now, request = self._engine.now, requests[0]
        failure = Failure(
            at=now,
            kind=answer.kind or "",
            rows=request.rows,
            tokens=request.tokens,
            size=request.size,
            retry_after_s=answer.retry_after_s,
            most_rows=answer.most_rows,
            latency_s=now - sent,
            canary=request.canary,
            status=429 if answer.kind == "overloaded" else None,
        )
        embedder.failures.append(failure)
        self.tally.failures.append(failure)
        if answer.kind == "overloaded":
            embedder.valve.refuse(now, embedder.sent, answer.retry_after_s)
            longest = min(MOST_BACKOFF_S, BACKOFF_S * 2**request.attempt)
            request.attempt += 1
            return max(self._chance.uniform(0, longest), answer.retry_after_s or 0.0, 1e-6)
        embedder.most_rows = answer.most_rows or embedder.most_rows
        requests.popleft()
        if request.rows > 1:
            piece = answer.most_rows or -(-request.rows // 2)
            self._divide(requests, request, piece)
        return 0.0

    def _divide(self, requests: deque[Request], request: Request, rows: int) -> None:
        starts = range(0, request.rows, rows)
        requests.extendleft(Request(request.lengths[start : start + rows]) for start in starts)

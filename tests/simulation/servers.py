"""Embedding servers in simulated time: what they hold, when they refuse, and how long a batch takes."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.engine import Engine


@dataclass(slots=True)
class Request:
    """The texts of one request, as their lengths in tokens, ascending."""

    lengths: list[int]
    canary: int = 0
    attempt: int = 0
    left: int = 0  # texts that the server has not embedded yet

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def size(self) -> int:
        return len(self.lengths) * self.lengths[-1]


@dataclass(frozen=True, slots=True)
class Answer:
    """`kind` None: vectors; else the kind of the fault."""

    kind: str | None = None
    retry_after_s: float | None = None
    most_rows: int | None = None


Reply = Callable[[Answer], None]
OVERLOADED = Answer("overloaded")
VECTORS = Answer()


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a batch costs: `fixed_s`, and `token_s` for each padded token, of at least `knee` tokens.

    `noise` is the deviation of the time's logarithm; one batch in `stall_every` takes `stall_s` longer.
    `speed` says how fast the GPU is at a time, 1 as a rule.
    """

    fixed_s: float
    token_s: float
    knee: int
    noise: float = 0.03
    stall_every: int = 0
    stall_s: float = 0.0
    speed: Callable[[float], float] | None = None

    def batch_s(self, tokens: float, now: float, chance: random.Random) -> float:
        seconds = self.fixed_s + self.token_s * max(tokens, self.knee)
        seconds *= chance.lognormvariate(-(self.noise**2) / 2, self.noise)
        seconds /= self.speed(now) if self.speed else 1.0
        if self.stall_every and chance.random() < 1 / self.stall_every:
            seconds += self.stall_s
        return seconds


class Meter:
    """How long at least one kernel ran, summed over the GPUs."""

    def __init__(self, engine: Engine, gpus: int) -> None:
        self._engine = engine
        self.gpus = gpus
        self._running = 0
        self._since = self._sum = 0.0

    def change(self, running: int) -> None:
        self._sum += self._running * (self._engine.now - self._since)
        self._since = self._engine.now
        self._running += running

    def busy_s(self) -> float:
        """Per GPU, since the start."""
        self.change(0)
        return self._sum / self.gpus


@dataclass(slots=True)
class Direct:
    """One request is one GPU batch; `replicas` take from one queue in order.

    `cap`: requests held before 429. `cap_texts`: texts held. `most_rows`: above it 413. `oom`: padded tokens above
    which a batch fails. `host_share`: of a batch's time, spent before the GPU starts. `crowd`: requests held above
    which each one more costs 3 %. `cold_until`: no batch ends before. `joins`: (time, replicas) that come later.
    """

    engine: Engine
    gpu: Gpu
    chance: random.Random
    replicas: int = 1
    cap: int | None = None
    cap_texts: int | None = None
    most_rows: int | None = None
    names_limit: bool = True
    oom: int | None = None
    host_share: float = 0.0
    crowd: int | None = None
    cold_until: float = 0.0
    joins: tuple[float, int] | None = None
    meter: Meter = field(init=False)
    _idle: int = field(init=False)
    _held: int = 0
    _texts: int = 0
    _queue: deque[tuple[Request, Reply]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.meter = Meter(self.engine, self.replicas + (self.joins[1] if self.joins else 0))
        self._idle = self.replicas
        if self.joins:
            self.engine.at(self.joins[0], self._join)

    def arrive(self, request: Request, reply: Reply) -> None:
        if self.most_rows and request.rows > self.most_rows:
            return reply(Answer("too_many_inputs", most_rows=self.most_rows if self.names_limit else None))
        if self.cap is not None and self._held >= self.cap:
            return reply(OVERLOADED)
        if self.cap_texts is not None and self._texts + request.rows > self.cap_texts:
            return reply(OVERLOADED)
        self._held += 1
        self._texts += request.rows
        self._queue.append((request, reply))
        return self._go()

    def _join(self) -> None:
        assert self.joins
        self._idle += self.joins[1]
        self._go()

    def _go(self) -> None:
        while self._idle and self._queue:
            request, reply = self._queue.popleft()
            self._idle -= 1
            now = self.engine.now
            fails = self.oom is not None and request.size > self.oom
            seconds = 0.4 if fails else self.gpu.batch_s(request.size, now, self.chance)
            if self.crowd is not None:
                seconds *= 1 + 0.03 * max(0, self._held - self.crowd)
            seconds += max(0.0, self.cold_until - now)
            gap = self.host_share * seconds
            answer = Answer("backend") if fails else VECTORS
            self.engine.after(gap, lambda: self.meter.change(1))
            self.engine.after(gap + seconds, lambda r=request, p=reply, a=answer: self._done(r, p, a))  # type: ignore[misc]

    def _done(self, request: Request, reply: Reply, answer: Answer) -> None:
        self.meter.change(-1)
        self._idle += 1
        self._held -= 1
        self._texts -= request.rows
        reply(answer)
        self._go()


@dataclass(slots=True)
class Merging:
    """Texts of all requests in one queue, cut into GPU batches without regard to requests; the next waits ready.

    By `batch_tokens` without padding, or by `batch_rows` padded, sorted by length eight batches at a time.
    """

    engine: Engine
    gpu: Gpu
    chance: random.Random
    batch_tokens: int = 0
    batch_rows: int = 0
    cap_texts: int = 32_000
    most_rows: int = 2048
    meter: Meter = field(init=False)
    _queue: deque[tuple[int, Request, Reply]] = field(default_factory=deque)
    _ready: deque[list[tuple[int, Request, Reply]]] = field(default_factory=deque)
    _texts: int = 0
    _running: bool = False

    def __post_init__(self) -> None:
        self.meter = Meter(self.engine, 1)

    def arrive(self, request: Request, reply: Reply) -> None:
        if request.rows > self.most_rows:
            return reply(Answer("too_many_inputs", most_rows=self.most_rows))
        if self._texts + request.rows > self.cap_texts:
            return reply(OVERLOADED)
        self._texts += request.rows
        request.left = request.rows
        self._queue.extend((length, request, reply) for length in request.lengths)
        return self._go()

    def _go(self) -> None:
        if not self._ready and self._queue:
            self._form()
        if self._running or not self._ready:
            return
        batch = self._ready.popleft()
        lengths = [length for length, _, _ in batch]
        tokens = sum(lengths) if self.batch_tokens else len(lengths) * max(lengths)
        self._running = True
        self.meter.change(1)
        seconds = self.gpu.batch_s(tokens, self.engine.now, self.chance)
        self.engine.after(seconds, lambda: self._done(batch))
        self._go()

    def _form(self) -> None:
        if self.batch_tokens:
            batch, room = [self._queue.popleft()], self.batch_tokens
            room -= batch[0][0]
            while self._queue and self._queue[0][0] <= room:
                batch.append(self._queue.popleft())
                room -= batch[-1][0]
            self._ready.append(batch)
            return
        taken = [self._queue.popleft() for _ in range(min(8 * self.batch_rows, len(self._queue)))]
        if len(taken) > self.batch_rows:
            taken.sort(key=lambda text: text[0])
        for start in range(0, len(taken), self.batch_rows):
            self._ready.append(taken[start : start + self.batch_rows])

    def _done(self, batch: list[tuple[int, Request, Reply]]) -> None:
        self.meter.change(-1)
        self._running = False
        for _, request, reply in batch:
            request.left -= 1
            self._texts -= 1
            if not request.left:
                reply(VECTORS)
        self._go()


@dataclass(slots=True)
class Hosted:
    """Many replicas behind quotas of requests/s and tokens/s, each saved up for `burst_s`; 429 with Retry-After."""

    engine: Engine
    chance: random.Random
    requests_per_s: float
    tokens_per_s: float
    burst_s: float = 2.0
    retry_after_s: float = 1.0
    fixed_s: float = 0.04
    token_s: float = 4e-6
    replicas: int = 64
    most_tokens: int = 300_000
    meter: Meter = field(init=False)
    _requests: float = math.inf
    _tokens: float = math.inf
    _seen: float = 0.0
    _running: int = 0

    def __post_init__(self) -> None:
        self.meter = Meter(self.engine, 1)

    def arrive(self, request: Request, reply: Reply) -> None:
        passed, self._seen = self.engine.now - self._seen, self.engine.now
        self._requests = min(self.requests_per_s * self.burst_s, self._requests + self.requests_per_s * passed)
        self._tokens = min(self.tokens_per_s * self.burst_s, self._tokens + self.tokens_per_s * passed)
        if request.tokens > self.most_tokens or request.rows > 2048:
            return reply(Answer("too_many_inputs"))
        if self._requests < 1 or self._tokens < request.tokens:
            return reply(Answer("overloaded", retry_after_s=self.retry_after_s))
        self._requests -= 1
        self._tokens -= request.tokens
        self._running += 1
        seconds = self.fixed_s + self.token_s * request.tokens
        seconds *= self.chance.lognormvariate(0, 0.2) * max(1.0, self._running / self.replicas)
        return self.engine.after(seconds, lambda: self._done(reply))

    def _done(self, reply: Reply) -> None:
        self._running -= 1
        reply(VECTORS)


Server = Direct | Merging | Hosted

"""From embedder to driver: what was seen at each endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Completion:
    """A request that brought vectors. `at` is when, in seconds on the clock of whoever tells it.

    `latency_s` is of the attempt that brought them. `size` is rows x longest text, in tokens: the work of a server
    that pads. `canary` is the number of the canary that it was; 0: none.
    """

    at: float
    latency_s: float
    rows: int
    tokens: int
    size: int
    canary: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not, by the kind of its fault. `latency_s` of a refusal is the network's."""

    at: float
    kind: str
    rows: int
    tokens: int
    size: int
    retry_after_s: float | None
    most_rows: int | None
    latency_s: float = 0.0
    canary: int = 0
    status: int | None = None  # of HTTP


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a hosted API says may still be asked, and for how many seconds that has to do; None: it does not say.

    `at` is when it said so, in seconds on the clock of whoever tells it.
    """

    at: float
    requests: float | None
    requests_reset_s: float
    tokens: float | None
    tokens_reset_s: float


@dataclass(frozen=True, slots=True)
class GpuSample:
    """GPU utilisation 0..1, where it was read, and how many seconds ago it was so.

    `source` is one of `gauges.MEASURES`, which says of what it is the share; several are joined by "+".
    """

    utilisation: float
    source: str
    age_s: float


@dataclass(frozen=True, slots=True)
class QueueSample:
    """What waits at a server and what it works on (None: it does not say), `age_s` ago, by the server's own count.

    In inputs; at Triton (`source`) in requests. `own`: of those of this embedder alone.
    """

    waiting: int
    running: int | None
    source: str
    age_s: float
    own: bool = False


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """What one embedder did at one endpoint. Counters only grow, so a lost report loses no row in any sum.

    `completions` and `failures` are those since the last report; `inflight` and `limit` are of this moment.
    `unique_texts` counts texts that were embedded, `rows` the output rows they stand for. `order` is the version of
    the order that has been followed since `obeyed_at`. Of `truncated` rows only the beginning was embedded.
    `gpu` and `queue` are what can be read from the embedder's machine; None is a normal state.
    """

    endpoint: str
    limit: int
    inflight: int
    requests: int
    answers: int
    retries: int
    rows: int
    unique_texts: int
    tokens: int
    truncated: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    completions: tuple[Completion, ...] = ()
    failures: tuple[Failure, ...] = ()
    order: int = 0
    obeyed_at: float = 0.0
    allowance: Allowance | None = None
    gpu: GpuSample | None = None
    queue: QueueSample | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """An embedder's half-second report to the driver.

    `starved_s`, `cpu_s` and `write_wait_s` are cumulative seconds: room at an endpoint but no text to
    send; CPU of this process; reading paused because finished parts were not yet written. `uptime_s` is since
    the embedder began: a driver that hears of it for the first time can tell whether it is itself the new one.
    `sent_at` is on the clock of the events in `endpoints`. `loop_s` is CPU of its event loop, cumulative;
    `idle_cores` are those of its machine since the last report. `leaving`: it was told to stop. `rows_reused`: with
    vectors of an earlier output, cumulative. `open_rows` are settled, in parts that are not durable yet.
    """

    embedder: str
    incarnation: str
    node: str
    endpoints: tuple[EndpointReport, ...]
    window_rows: int
    starved_s: float
    cpu_s: float
    write_wait_s: float
    uptime_s: float = 0.0
    sent_at: float = 0.0
    loop_s: float = 0.0
    idle_cores: float = 0.0
    leaving: bool = False
    rows_reused: int = 0
    open_rows: int = 0

"""What crosses a process boundary: each kind of message defined once, as plain frozen data.

Texts and vectors are not here on purpose: they go input file -> embedder -> server -> part and pass
through no other process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file as the plan saw it.

    `path` is a local path or a URL. `name` is relative to the folder that holds the whole input, so that moving the
    input changes nothing; `fingerprint` changes when the content does. `version` tells cheaply, within a run, that
    the file may have changed: what the storage says of it (time, ETag). `members` are the paths of small files that
    stand here as one, a row each; `path` is the first of them.
    """

    path: str
    name: str
    format: str
    rows: int
    size: int
    fingerprint: str
    version: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the input are read, and the Arrow types that their values have in the output.

    `id` None means that a row's id is its 0-based position in the input (int64).
    """

    text: str
    id: str | None
    keep: tuple[str, ...]
    id_type: pa.DataType
    keep_types: tuple[pa.DataType, ...]

    @property
    def needed(self) -> list[str]:
        """The names to project, each once, in a stable order."""
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.keep]))


@dataclass(frozen=True, slots=True)
class Start:
    """Where a file that cannot address its rows can be read from.

    Row `row` begins `skip` bytes of content after the place `byte` of the file, with `line` lines before it. In a
    compressed file `byte` is where a frame begins and `skip` counts what comes out of it; else `skip` is 0.
    """

    row: int = 0
    line: int = 0
    byte: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A run of rows of one input file that becomes one output file called `name`.

    `offset` is the first row within the file, `first_row` its position in the whole input. Where a format
    cannot address rows, reading starts at `start`.
    """

    index: int
    name: str
    offset: int
    first_row: int
    rows: int
    start: Start = Start()


@dataclass(frozen=True, slots=True)
class Lease:
    """A run of consecutive parts of one file, lent to one embedder until its deadline passes unrenewed."""

    file: SourceFile
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part that is durable in the output folder: `rows` planned, `rejects` of them not embedded."""

    index: int
    rows: int
    rejects: int


@dataclass(frozen=True, slots=True)
class Claim:
    """An embedder's beat to the queue: it renews, acknowledges and asks in one call.

    `incarnation` is new with every process that takes the name `embedder`; `sequence` grows with every new
    claim and stays when a claim is said again. `held` are the indexes of the parts it still works on;
    whatever the queue lent it and is missing there goes back. `wanted_rows` is how many more it can take.
    """

    embedder: str
    incarnation: str
    sequence: int
    held: tuple[int, ...]
    done: tuple[PartDone, ...]
    wanted_rows: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The queue's answer. `finished` means that every part asked for is durable."""

    leases: tuple[Lease, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Where the job stands, counted in rows of the parts this job was asked for."""

    rows: int
    rows_resumed: int
    rows_done: int
    rejects_resumed: int
    rejects_done: int
    parts_left: int
    leases_expired: int

    @property
    def finished(self) -> bool:
        return self.parts_left == 0


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


@dataclass(frozen=True, slots=True)
class Order:
    """What one embedder may do at one endpoint: its share of the endpoint's limit, and the request's size.

    `limit` is in requests in flight. `batch_rows` and `batch_tokens` (rows x longest) bound one request; a single
    text longer than `batch_tokens` goes alone. A `canary` not seen before asks for one single request of
    `canary_tokens`. `by_chance`: refusals come whatever is held, and stop nothing. `requests_per_s` and
    `tokens_per_s` are this embedder's share of a quota; None: no quota. `version` grows with every change.
    """

    limit: int
    batch_rows: int
    batch_tokens: int
    version: int = 0
    canary: int = 0
    canary_tokens: int | None = None
    by_chance: bool = False
    requests_per_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """The driver's answer to a report: one order an endpoint."""

    by_endpoint: dict[str, Order]


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One endpoint as the driver sees it: the fields of a telemetry line, and the totals since the start.

    For `paced_s` seconds it was held back by what may be asked of it in a minute.
    """

    endpoint: str
    limit: int
    inflight: int
    batch_rows: int
    batch_tokens: int
    rows_per_s: float
    tokens_per_s: float
    decision: str
    rows: int
    unique_texts: int
    tokens: int
    requests: int
    retries: int
    errors: dict[str, int]
    truncated: int = 0
    paced_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """One endpoint during some `seconds`, which its `Load` tells; `limit` and `batch_rows` are as they were last.

    For a share `paced` of the time it was held back by what may be asked of it in a minute. Of `requests`, `errors`
    by class did not bring vectors. `gpu` is the mean utilisation of its GPUs, 0..1, None: not seen; `gpu_source` is
    where that was read. `moves`: how often its setting changed.
    """

    endpoint: str
    limit: int
    batch_rows: int
    paced: float
    requests: int
    errors: dict[str, int]
    gpu: float | None
    gpu_source: str | None
    moves: int


@dataclass(frozen=True, slots=True)
class Load:
    """What the pool's time went into during some `seconds`, as shares of the embedders' time.

    `starved`: there was room at an endpoint but no text to send; `writing`: reading waited for finished parts to be
    written; `busy`: CPU of the event loops, of a core each. `idle_cores` are those of the node that has fewest.
    """

    seconds: float
    starved: float
    writing: float
    busy: float
    idle_cores: float
    endpoints: tuple[EndpointLoad, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds the job back, how that was `told`, and what to `change` to go faster.

    `bound_by` is one of server, client, input, output, rate-limit.
    """

    bound_by: str
    told: str
    change: str

    @property
    def advice(self) -> str:
        """In the form `why: what to change`, or `what, why; what to change`."""
        return ("; " if ": " in self.told else ": ").join(filter(None, [self.told, self.change]))


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """The whole pool as the driver has seen it for `seconds`, for the progress bar and the summary.

    `verdict` is on all of that time, `recently` on the last of it (None: too little was seen, or it is still being
    tuned). `wanted` are embedders by node, where the driver has heard of the node. `gpu` is the mean over the
    endpoints whose GPUs can be seen, of now; `gpu_mean` and `gpu_p10` are over the steady state, and `gpu_source`
    says where they were read last. `rows_reused` have vectors of an earlier output.
    """

    endpoints: tuple[EndpointStatus, ...]
    seconds: float
    embedders: int
    gpu: GpuSample | None
    gpu_mean: float | None
    gpu_p10: float | None
    window_rows: int
    cpu_s: float
    verdict: Verdict
    recently: Verdict | None
    wanted: dict[str, int]
    gpu_source: str | None = None
    rows_reused: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes; None: not known, or no limit. `tokens_per_gpu_batch`: it merges requests up to this."""

    tokens_per_text: int | None = None
    texts_per_request: int | None = None
    tokens_per_request: int | None = None
    bytes_per_request: int | None = None
    texts_in_flight: int | None = None
    requests_in_flight: int | None = None
    tokens_per_gpu_batch: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a server beyond a vector for each text; each dialect has its own words for it.

    `dimensions`: vectors shortened to so many (Matryoshka). `prompt_name`: one of the server's own prompts. `raw`:
    vectors of the length that the model gives them. `truncate`: the server cuts a text that is too long, if it can;
    without, it refuses such a text, if it can.
    """

    dimensions: int | None = None
    prompt_name: str | None = None
    raw: bool = False
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An embedding server. The key is named, never held: each process reads `api_key_env` itself.

    `metrics_url` is a page with its GPU utilisation or its queue, if the user names one. No more than
    `requests_per_minute` and `tokens_per_minute` are asked of it, over the whole pool; None: any number. `route` is
    the URL that texts are sent to, `encoding` how vectors come back, in the dialect's words; empty: what such a
    server has by default. `counted` is the encoding of some of the requests, where answers in the other do not tell
    the tokens. `unit`: vectors are made of length 1 when they have come. `cuts`: it embeds the beginning of a text
    that is too long. `server` is what it calls itself; `switches` are its own options that raise a limit, by the
    limit's name.
    """

    url: str
    model: str
    dialect: str
    api_key_env: str | None
    metrics_url: str | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    route: str = ""
    encoding: str = ""
    counted: str = ""
    unit: bool = False
    cuts: bool = False
    wanted: Wanted = Wanted()
    limits: Limits = Limits()
    server: str = ""
    switches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reuse:
    """An earlier output, and the folder of the index of its texts."""

    out: str
    index: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """All that an embedder is told when it starts.

    `part_properties` goes into the footer of each part. `first_orders` hold until the driver's first answer.
    `patience_s` is how long an endpoint may be away before the job gives up. `truncate`: texts that are too long
    for the model are cut, not rejected. `prompt` goes before each text. `reuse`: vectors that are there already.
    `sink` is the kind of output.
    """

    out: str
    endpoints: tuple[Endpoint, ...]
    columns: Columns
    dim: int
    dtype: str
    part_properties: dict[str, str]
    first_orders: Orders
    patience_s: float
    truncate: bool = True
    prompt: str = ""
    reuse: Reuse | None = None
    sink: str = "parquet"

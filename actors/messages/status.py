"""From driver to job: how the pool stands, and what holds it back."""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.reports import GpuSample


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

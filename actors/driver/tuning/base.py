"""What a tuning policy is: observation in, decision out. No clock, no Ray, no I/O: it can be simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from actors.messages import Allowance, Completion, Failure, GpuSample


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tuned, for one endpoint and the whole pool: requests in flight, the size of each, and their pace.

    `canary_tokens`: send one single request of this size (tokens) to see whether the server takes it; a new canary
    has a new `canary`. `by_chance`: it refuses whatever it holds. `requests_per_s` and `tokens_per_s` pace a
    quota; None does not.
    """

    limit: int
    batch_rows: int
    batch_tokens: int
    canary: int = 0
    canary_tokens: int | None = None
    by_chance: bool = False
    requests_per_s: float | None = None
    tokens_per_s: float | None = None

    @property
    def tuned(self) -> tuple[int, int, int]:
        """What shows in how fast the server is."""
        return self.limit, self.batch_rows, self.batch_tokens


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the user pinned, how far the rest may go, and what the server says of itself (None: it does not say).

    A pinned knob never moves. `requests_per_s` and `tokens_per_s` are never exceeded. `server_*`: texts in one
    request, texts and requests in flight, tokens of a GPU batch, and texts, of all requests, that it makes its
    batches from.
    """

    limit: int | None = None
    batch_rows: int | None = None
    max_batch_rows: int = 2048
    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    server_rows: int | None = None
    server_texts_inflight: int | None = None
    server_requests_inflight: int | None = None
    server_batch_tokens: int | None = None
    server_merged_texts: int | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened at one endpoint since the last one. `now` and the times of events share one axis, in seconds.

    Events come late (up to two reports) and not in order. `inflight` is of this moment, over the pool. `starved`:
    for more than a fifth of the time some embedder had room but no text to send. `gpu` says itself how old it is.
    Every event of before `complete_to` (the oldest among the last reports of the embedders that are heard from) is
    in this observation or an earlier one. Every such embedder has followed the setting of the last decision since
    `obeyed_since`; None: not all of them yet. `allowance` is the newest that the server's headers told of.
    """

    now: float
    seconds: float
    completions: tuple[Completion, ...]
    failures: tuple[Failure, ...]
    inflight: int
    starved: bool
    complete_to: float
    obeyed_since: float | None
    gpu: GpuSample | None = None
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The setting from now on, and in a few words why it moved or held.

    `paced`: what may be asked for in a minute holds the job back, not what the server can do.
    """

    setting: Setting
    reason: str
    paced: bool = False


class Policy(Protocol):
    """One endpoint's tuner."""

    def start(self) -> Setting:
        """The setting before anything is known."""
        ...

    def decide(self, seen: Observation) -> Decision: ...

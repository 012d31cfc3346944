"""What a tuning policy is: observation in, decision out. No clock, no Ray, no I/O: it can be simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from actors.messages import GpuSample


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tuned, for one endpoint and the whole pool: requests in flight, and the size of each."""

    limit: int
    batch_rows: int
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the user pinned and how far the rest may go. A pinned knob never moves."""

    limit: int | None = None
    batch_rows: int | None = None
    max_batch_rows: int = 2048


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened at one endpoint in the `seconds` since the last one.

    `answers`, `rows` and `tokens` were delivered in that time; `errors` counts faults by kind. `inflight`
    is of this moment. `starved`: some embedder had room but no text to send.
    """

    seconds: float
    answers: int
    rows: int
    tokens: int
    inflight: int
    starved: bool
    gpu: GpuSample | None = None
    errors: dict[str, int] = field(default_factory=dict)
    latencies_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The setting from now on, and in a few words why it moved or held."""

    setting: Setting
    reason: str


class Policy(Protocol):
    """One endpoint's tuner."""

    def start(self) -> Setting:
        """The setting before anything is known."""
        ...

    def decide(self, seen: Observation) -> Decision: ...

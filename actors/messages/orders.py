"""From driver to embedder: how much may be in flight, and how large a request may be."""

from __future__ import annotations

from dataclasses import dataclass


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
    """The driver's answer to a report: one order an endpoint, and after how long it wants the next report."""

    by_endpoint: dict[str, Order]
    report_s: float = 0.25

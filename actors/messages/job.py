"""What an embedder is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.endpoints import Endpoint
from actors.messages.orders import Orders
from actors.messages.plan import Columns


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
    `sink` is the kind of output. `drain_s`: for what is in flight when the job is told to end.
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
    drain_s: float = 3.0

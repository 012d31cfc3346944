"""Between embedder and queue: who does which parts, and what is durable."""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.plan import Part, SourceFile


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
    """The queue's answer. `finished` means that every part asked for is durable; the next claim comes not before
    `soon_s`."""

    leases: tuple[Lease, ...]
    finished: bool
    soon_s: float = 0.05


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Where the job stands, counted in rows of the parts this job was asked for.

    `silent` are embedders that hold parts and were not heard for a few beats.
    """

    rows: int
    rows_resumed: int
    rows_done: int
    rejects_resumed: int
    rejects_done: int
    parts_left: int
    leases_expired: int
    silent: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        return self.parts_left == 0

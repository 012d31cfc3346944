"""What a dialect is: texts -> request, answer -> vectors, and how such a server is known. It does no I/O."""

from __future__ import annotations

import mmap
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from actors.messages import Endpoint, Limits, Wanted

Body = bytes | bytearray | mmap.mmap  # what can be searched without a copy


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as plain data. Headers of its own come over those that every request has."""

    method: str
    url: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer as plain data; `headers` finds a name however it is written."""

    status: int
    headers: Mapping[str, str]
    body: Body


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors in the order of the texts, float32[n, dim]; `tokens` as the server counted them, if it did.

    `queued_s` and `worked_s`: how long the texts waited there and were computed, on average, if it says so.
    """

    vectors: npt.NDArray[np.float32]
    tokens: int | None
    queued_s: float | None = None
    worked_s: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a server can be asked; the fields are those of `Description`."""

    route: str
    encodings: tuple[str, ...]
    counted: str = ""
    takes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Description:
    """A server as its own pages tell of it, and as such servers are.

    `server` is its kind and version. `route` is where texts are sent; `encodings` are the ways in which vectors may
    come, the cheapest first; `counted` is the one whose answers tell the tokens, where the first does not.
    `models` are those it names; `dim` is None where only an answer can tell. `cuts_long_texts`: what it does with
    one when not asked for anything. `batching` says in a few words what fills its GPU. `takes` are the fields of
    `Wanted` that mean something to it. `waits` is the header in which its answers tell how long their texts waited
    there. `others` are ways to ask it for what it does not take on `route`. `told`
    maps the name of a field, of `limits` too, to the page that told it; what is not there is known of such servers.
    `switches` are the server's own names of the options that raise a limit, by the name of the limit in `limits`.
    """

    server: str
    route: str
    encodings: tuple[str, ...]
    counted: str = ""
    models: tuple[str, ...] = ()
    dim: int | None = None
    cuts_long_texts: bool | None = None
    batching: str = ""
    takes: frozenset[str] = frozenset()
    waits: str = ""
    others: tuple[Way, ...] = ()
    limits: Limits = NO_LIMITS
    told: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)

    def suiting(self, wanted: Wanted) -> Description:
        """Asked in the first of its ways that takes all that is wanted, or as much of it as any does.

        A prompt counts most: without it the vectors are of other texts.
        """
        asked = {name for name in ("dimensions", "prompt_name", "raw") if getattr(wanted, name)}
        if wanted.truncate != self.cuts_long_texts:
            asked.add("truncate")

        def missing(way: Way) -> tuple[bool, int]:
            left = asked - way.takes
            return "prompt_name" in left, len(left)

        ways = (Way(self.route, self.encodings, self.counted, self.takes), *self.others)
        best = min(ways, key=missing)
        return replace(
            self, route=best.route, encodings=best.encodings, counted=best.counted, takes=best.takes, others=()
        )


Looking = Generator[Request, Reply | None, Description | None]
"""Yields what to ask the server, is sent the answer (None: there was none), and returns what it has found."""

Decoding = Generator[None, None, Answer]
"""Yields after every few milliseconds of work and returns the answer.

Raises Fault(WRONG_ANSWER) when there is not one vector for each text.
"""


class Dialect(Protocol):
    """How one kind of server speaks."""

    def describe(self, url: str, model: str) -> Looking:
        """Look whether the server at `url` is one of this kind; None: it is not.

        `url` is as the user gave it, with or without `/v1`; `model` is empty when it is to be found. Raises Fault
        where the server is of this kind, and does not have the model or not yet.
        """
        ...

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request: ...

    def answer(self, reply: Reply, texts: int) -> Decoding:
        """The vectors in an answer with status 200 to a request of so many `texts`.

        Its body may be overwritten when the decoding has ended.
        """
        ...


@runtime_checkable
class KnownByName(Protocol):
    """A dialect of servers that tell nothing of themselves: their host or the user names it."""

    def named(self, url: str) -> Description:
        """What is known of every such server, at `url`."""
        ...

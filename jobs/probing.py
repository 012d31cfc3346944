"""Put a question to an endpoint before the job starts, with patience for one that is slow to be there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from actors.embedder.client import EmbeddingClient, fatal
from actors.embedder.faults import Fault, Kind
from actors.errors import FAILED, UserError
from actors.messages import Endpoint

_ABSENT_S, _LOADING_S = 10.0, 120.0  # nobody is there; somebody is, but still loads the model
_PATIENCE_S = {
    Kind.TRANSPORT: _ABSENT_S,
    Kind.TIMEOUT: _ABSENT_S,
    Kind.BACKEND: 10.0,
    Kind.OVERLOADED: _LOADING_S,
    Kind.WRONG_ANSWER: 3.0,
}
_PROBE_TEXTS = (
    "A short text that every embedding model can take.",
    "Another one, to be sure.",
    "Die Linde vor dem Haus blüht im Juni.",
    "为什么天空是蓝色的？",
    "def mean(values): return sum(values) / len(values)",
    "The committee met on 4 May 1998 in Geneva; 17 delegates voted for the second draft, 3 against it.",
)

T = TypeVar("T")
Vectors = npt.NDArray[np.float32]


class RefusedError(Exception):
    """The server does not take such a request."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the first of our texts took alone, all of them one after the other or together, and their bytes."""

    alone_s: float
    all_s: float
    bytes: int = len("".join(_PROBE_TEXTS).encode())
    texts: int = len(_PROBE_TEXTS)


async def vectors_of_own_texts(client: EmbeddingClient) -> tuple[Vectors, Pace]:
    """Those of our texts, and how long they took.

    Raises RefusedError where the server does not take such requests. Their dimension is that of two answers: the
    output is bound to it, so that one gone wrong would spoil it for good.
    """
    started = monotonic()
    try:
        alone = (await client.embed(_PROBE_TEXTS[:1], None)).vectors
        alone_s = monotonic() - started
        together = await _together(client)
        all_s = monotonic() - started - alone_s
    except Fault as fault:
        if fault.kind is Kind.BAD_REQUEST:
            raise RefusedError(fault) from fault
        raise
    if alone.shape[1] != together.shape[1]:
        why = f"vectors of {alone.shape[1]} dimensions came, and then of {together.shape[1]}"
        raise Fault(Kind.WRONG_ANSWER, why)
    return together, Pace(alone_s, all_s)


async def _together(client: EmbeddingClient) -> Vectors:
    try:
        return (await client.embed(_PROBE_TEXTS, None)).vectors
    except Fault as fault:
        if fault.kind is not Kind.TOO_MANY_INPUTS:
            raise
    one_by_one = [(await client.embed([text], None)).vectors for text in _PROBE_TEXTS]
    if len({each.shape for each in one_by_one}) > 1:
        raise Fault(Kind.WRONG_ANSWER, "vectors of several dimensions came")
    return np.concatenate(one_by_one)


async def with_client(endpoint: Endpoint, ask: Callable[[EmbeddingClient], Awaitable[T]]) -> T:
    """What `ask` returns, asked again while the server may yet come. Raises UserError that names it."""
    client = EmbeddingClient(endpoint)
    try:
        return await _patiently(client, ask)
    finally:
        await client.aclose()


async def _patiently(client: EmbeddingClient, ask: Callable[[EmbeddingClient], Awaitable[T]]) -> T:
    started, said = monotonic(), False
    while True:
        try:
            return await ask(client)
        except Fault as fault:
            if monotonic() - started >= _patience_s(fault):
                raise _refusal(client.endpoint, fault) from fault
            if not said:
                print(f"waiting for {client.endpoint.url} ({fault.detail})", file=sys.stderr)
                said = True
        await asyncio.sleep(0.5)


def _patience_s(fault: Fault) -> float:
    if fault.kind is Kind.STARTING:
        return _ABSENT_S if fault.status is None else _LOADING_S
    return _PATIENCE_S.get(fault.kind, 0.0)


def _refusal(endpoint: Endpoint, fault: Fault) -> UserError:
    if fault.kind in (Kind.STARTING, Kind.TRANSPORT) and fault.status is None:
        message = (
            f"no embedding server answers at {endpoint.url} ({fault.detail}); is it running, is the URL right?"
        )
        return UserError(message, FAILED)
    return fatal(endpoint, fault)

"""Ask each endpoint what it is before the job starts: reachable, key accepted, which model, which dimension."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeVar

from actors.embedder.client import EmbeddingClient, fatal
from actors.embedder.faults import Fault, Kind
from actors.errors import FAILED, UserError
from actors.messages import Endpoint
from jobs.settings import Endpoint as EndpointSettings

_ABSENT_S, _LOADING_S = 10.0, 120.0  # nobody is there; somebody is, but still loads the model
_PATIENCE_S = {
    Kind.TRANSPORT: _ABSENT_S,
    Kind.TIMEOUT: _ABSENT_S,
    Kind.BACKEND: 10.0,
    Kind.OVERLOADED: _LOADING_S,
    Kind.WRONG_ANSWER: 3.0,
}
_PROBE_TEXTS = "A short text that every embedding model can take.", "Another one, to be sure."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """The endpoints with their models, the one dimension they agree on, and the seconds that one text took."""

    endpoints: tuple[Endpoint, ...]
    dim: int
    probe_s: float


def find_endpoints(servers: Sequence[EndpointSettings]) -> Found:
    """Raises UserError, naming the URL, when one of them cannot be used or they do not agree."""
    if not servers:
        raise UserError(
            "no endpoint: name an embedding server with --endpoint URL, or endpoints: in the config file"
        )
    return asyncio.run(_find(servers))


async def _find(servers: Sequence[EndpointSettings]) -> Found:
    looked = await asyncio.gather(*(_look(server) for server in servers))
    first, dim, _ = looked[0]
    for endpoint, other, _ in looked[1:]:
        if other != dim:
            raise UserError(f"{first.url} gives {dim} dimensions but {endpoint.url} {other}: not the same model")
    return Found(tuple(endpoint for endpoint, _, _ in looked), dim, max(seconds for _, _, seconds in looked))


async def _look(server: EndpointSettings) -> tuple[Endpoint, int, float]:
    dialect = "openai" if server.dialect in (None, "auto") else server.dialect or ""
    endpoint = Endpoint(
        url=server.url,
        model=server.model or "",
        dialect=dialect,
        api_key_env=server.api_key_env,
        metrics_url=server.metrics_url,
        requests_per_minute=server.requests_per_minute,
        tokens_per_minute=server.tokens_per_minute,
    )
    if not endpoint.model:
        endpoint = replace(endpoint, model=await _with_client(endpoint, _only_model))
    started = monotonic()
    dim = await _with_client(endpoint, _dimension)
    return endpoint, dim, (monotonic() - started) / len(_PROBE_TEXTS)


async def _with_client(endpoint: Endpoint, ask: Callable[[EmbeddingClient], Awaitable[T]]) -> T:
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


async def _only_model(client: EmbeddingClient) -> str:
    url = client.endpoint.url
    try:
        names = await client.models()
    except Fault as fault:
        if fault.kind is not Kind.NOT_FOUND:
            raise
        names = []
    if not names:
        raise UserError(f"{url} does not say which model it serves; name it with --model")
    if len(names) > 1:
        raise UserError(f"{url} serves several models ({', '.join(names)}); choose one with --model")
    return names[0]


async def _dimension(client: EmbeddingClient) -> int:
    """That of two answers. The output is bound to it, so that one answer gone wrong would spoil it for good."""
    answers = [await client.embed([text], None) for text in _PROBE_TEXTS]
    first, second = (int(answer.vectors.shape[1]) for answer in answers)
    if first != second:
        raise Fault(Kind.WRONG_ANSWER, f"vectors of {first} dimensions came, and then of {second}")
    return first

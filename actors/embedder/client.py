"""One endpoint over HTTP: texts in, checked vectors or a Fault out. No retries here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Sequence

import aiohttp
import httpx
import numpy as np

from actors.embedder.dialects import DIALECTS, Answer, Request
from actors.embedder.faults import Fault, Kind
from actors.embedder.transport import WholeBodyTransport
from actors.errors import UserError
from actors.messages import Endpoint

_CONNECT_S = 10.0
_READ_S = 300.0  # between two pieces of an answer: a large batch on a CPU server takes minutes


class EmbeddingClient:
    """Sends requests to one endpoint. Must be used inside one event loop; close it with `aclose`."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises UserError when the variable that should hold the key is not set."""
        self.endpoint = endpoint
        self._dialect = DIALECTS[endpoint.dialect]
        # a proxy that compresses vectors costs CPU on both sides and saves next to nothing
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if endpoint.api_key_env:
            headers["authorization"] = f"Bearer {_key(endpoint.api_key_env)}"
        self._http = httpx.AsyncClient(
            transport=WholeBodyTransport(),
            headers=headers,
            timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S, pool=None),
        )

    async def embed(self, texts: Sequence[str], dim: int | None) -> Answer:
        """One vector for each text. Raises Fault for whatever else comes back.

        With `dim`, vectors of another dimension are a fault too.
        """
        body = await self._send(self._dialect.embed(self.endpoint.url, self.endpoint.model, texts))
        answer = await _to_the_end(self._dialect.answer(body, len(texts)))
        _check(answer, dim)
        return answer

    async def models(self) -> list[str]:
        """Names of the models the server says it has. Raises Fault."""
        return self._dialect.model_names(await self._send(self._dialect.models(self.endpoint.url)))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, request: Request) -> bytes:
        try:
            response = await self._http.request(request.method, request.url, content=request.body)
        except (httpx.RequestError, httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
            raise Fault(Kind.TRANSPORT, _why(error)) from error
        if response.status_code != 200:
            raise self._dialect.fault(response.status_code, response.headers, response.content)
        return response.content


async def _to_the_end(decoding: Generator[None, None, Answer]) -> Answer:
    """Its result. The event loop's other tasks run whenever it yields."""
    while True:
        try:
            next(decoding)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        await asyncio.sleep(0)


def _why(error: BaseException) -> str:
    """The system's own words where there are some: aiohttp wraps them in its own."""
    cause = getattr(error.__cause__, "os_error", None) or error
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return str(cause) or type(error).__name__


def fatal(endpoint: Endpoint, fault: Fault) -> UserError:
    """What to tell the person when `fault` ends the job."""
    if fault.kind is Kind.AUTH:
        key = f"the key in ${endpoint.api_key_env}" if endpoint.api_key_env else "a request without a key"
        return UserError(
            f"{endpoint.url} refused {key} (status {fault.status}): set the right key in the environment "
            f"and name its variable with --api-key-env",
            1,
        )
    if fault.kind is Kind.NOT_FOUND:
        return UserError(
            f"{endpoint.url} has no such route, or no model '{endpoint.model}' "
            f"(status {fault.status}: {fault.detail}); check --endpoint and --model",
            1,
        )
    status = f"status {fault.status}: " if fault.status else ""
    return UserError(f"{endpoint.url} cannot be used ({fault.kind}: {status}{fault.detail})", 1)


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        name = "named by --api-key-env" if _may_be_a_key(variable) else variable
        raise UserError(f"the environment variable {name} is not set; it should hold the API key")
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the API key in {variable} holds characters that no HTTP header can; set it again")
    return key


def _may_be_a_key(name: str) -> bool:
    """Whether somebody may have given the key where its variable's name belongs."""
    return len(name) > 20 and any(c.islower() for c in name) and any(c.isdigit() for c in name)


def _check(answer: Answer, dim: int | None) -> None:
    vectors = answer.vectors
    if dim is not None and vectors.shape[1] != dim:
        raise Fault(Kind.WRONG_ANSWER, f"vectors of {vectors.shape[1]} dimensions came, {dim} were expected")
    # one pass shows that all is well: NaN and infinity make the row's squared length so, an all-zero row makes it 0
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    if np.isfinite(lengths).all() and lengths.all():
        return
    # but so do very large and very small values
    if not np.isfinite(vectors).all():
        raise Fault(Kind.WRONG_ANSWER, "a vector holds NaN or infinity")
    if not vectors.any(axis=1).all():
        raise Fault(Kind.WRONG_ANSWER, "a vector is all zero")

"""One endpoint over HTTP: texts in, checked vectors or a Fault out. No retries here."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from actors.embedder.answer_time import MOST_S
from actors.embedder.bodies import Bodies
from actors.embedder.dialects import DIALECTS, Answer, Decoding, Reply, Request
from actors.embedder.dialects.errors import fault
from actors.embedder.dialects.headers import allowance
from actors.embedder.dialects.openai import above_route
from actors.embedder.faults import Fault, Kind
from actors.embedder.transport import WholeBodyTransport, body_of
from actors.errors import UserError
from actors.messages import Allowance, Endpoint

_CONNECT_S = 10.0
_COUNTED_EVERY = 32  # requests: of answers that do not tell the tokens, one that does


class EmbeddingClient:
    """Sends requests to one endpoint. Must be used inside one event loop; close it with `aclose`."""

    def __init__(self, endpoint: Endpoint, bodies: Bodies | None = None) -> None:
        """`bodies` is shared by the clients of a process. Raises UserError when the key's variable is not set."""
        self.endpoint = endpoint
        self.allowance: Allowance | None = None  # what the server last said may still be asked
        self._dialect = DIALECTS[endpoint.dialect]
        self._counted = replace(endpoint, encoding=endpoint.counted) if endpoint.counted else None
        self._asked = 0
        # a proxy that compresses vectors costs CPU on both sides and saves next to nothing
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if endpoint.api_key_env:
            headers["authorization"] = f"Bearer {_key(endpoint.api_key_env)}"
        self._http = httpx.AsyncClient(transport=WholeBodyTransport(bodies), headers=headers)

    async def embed(self, texts: Sequence[str], dim: int | None, read_s: float = MOST_S) -> Answer:
        """One vector for each text. Raises Fault for whatever else comes back.

        With `dim`, vectors of another dimension are a fault too; so is no word of an answer for `read_s` seconds.
        """
        async with self._answer_to(self._dialect.embed(self._endpoint_of_next(), texts), read_s) as reply:
            if reply.status != 200:
                raise fault(reply)
            answer = await _to_the_end(self._dialect.answer(reply, len(texts)))
        lengths = _check(answer, dim)
        if not self.endpoint.unit:
            return answer
        return replace(answer, vectors=(answer.vectors / lengths[:, None]).astype(np.float32, copy=False))

    async def ask(self, request: Request, read_s: float = MOST_S) -> Reply:
        """What the server answers, whatever its status. Raises Fault when nothing comes."""
        async with self._answer_to(request, read_s) as reply:
            return replace(reply, body=bytes(reply.body[:]))

    async def aclose(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def _answer_to(self, request: Request, read_s: float) -> AsyncIterator[Reply]:
        """The answer, whose body is overwritten afterwards. Raises Fault when nothing comes."""
        timeout = httpx.Timeout(read_s, connect=_CONNECT_S, pool=None)
        with _as_faults(read_s):
            sending = self._http.build_request(
                request.method, request.url, content=request.body, headers=request.headers, timeout=timeout
            )
            response = await self._http.send(sending, stream=True)
        try:
            with _as_faults(read_s):
                body = await body_of(response)
            self.allowance = allowance(response.headers, time.monotonic()) or self.allowance
            yield Reply(response.status_code, response.headers, body)
        finally:
            await response.aclose()

    def _endpoint_of_next(self) -> Endpoint:
        self._asked += 1
        return self._counted if self._counted and self._asked % _COUNTED_EVERY == 1 else self.endpoint


@contextmanager
def _as_faults(read_s: float) -> Iterator[None]:
    """Errors of httpx as Faults."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise Fault(Kind.STARTING, f"no connection within {_CONNECT_S:.0f} s") from error
    except httpx.ConnectError as error:
        raise Fault(Kind.STARTING, _why(error)) from error
    except httpx.TimeoutException as error:
        raise Fault(Kind.TIMEOUT, f"no answer within {read_s:.0f} s") from error
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Fault(Kind.TRANSPORT, _why(error)) from error


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _to_the_end(decoding: Decoding) -> Answer:
    """Its result. The event loop's other tasks run whenever it yields."""
    while True:
        try:
            next(decoding)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        await asyncio.sleep(0)


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
        what = f"has no such route, or no model '{endpoint.model}'" if endpoint.model else "has no such page"
        return UserError(
            f"{endpoint.url} {what} (status {fault.status}: {fault.detail}); "
            f"check --endpoint and --model{route_hint(endpoint.url)}",
            1,
        )
    status = f"status {fault.status}: " if fault.status else ""
    why = f"{fault.kind}: {status}{fault.detail}"
    return UserError(f"{endpoint.url} cannot be used ({why}); run the same command again to go on", 1)


def route_hint(url: str) -> str:
    """For whoever has given the address of a route."""
    above = above_route(url)
    return f", or give the base URL, {above}" if above else ""


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


def _check(answer: Answer, dim: int | None) -> npt.NDArray[np.floating[Any]]:
    """The vectors' lengths, [n], none of which is 0. Raises Fault."""
    vectors = answer.vectors
    if dim is not None and vectors.shape[1] != dim:
        why = f"vectors of {vectors.shape[1]} dimensions came, {dim} were expected"
        raise Fault(Kind.WRONG_ANSWER, why, sound=True)
    # one pass shows that all is well: NaN and infinity make the row's squared length so, an all-zero row makes it 0
    squares: npt.NDArray[np.float32] = np.einsum("ij,ij->i", vectors, vectors)
    if np.isfinite(squares).all() and squares.all():
        return np.sqrt(squares)
    # but so do very large and very small values
    if not np.isfinite(vectors).all():
        raise Fault(Kind.WRONG_ANSWER, "a vector holds NaN or infinity", sound=True)
    if not vectors.any(axis=1).all():
        raise Fault(Kind.WRONG_ANSWER, "a vector is all zero", sound=True)
    exact: npt.NDArray[np.float64] = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return exact

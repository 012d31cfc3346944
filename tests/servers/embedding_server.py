"""A deterministic OpenAI embedding server that can be told to misbehave: what the tests embed against.

`python -m tests.servers.embedding_server --port 0 --dim 32` prints `READY <port>` once it takes connections
on 127.0.0.1. Each field of `Behaviour` is a flag, and can be changed at run time:

    POST /v1/embeddings, GET /v1/models, GET /health    as OpenAI
    POST /_behaviour    JSON of the fields to change
    GET  /_stats        `Stats.report`
    GET  /_seen         {text: times answered with its right vector}
    POST /_reset        clears stats and seen
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.servers.vectors import vectors_of

API_KEY_VARIABLE = "EMBEDDING_SERVER_API_KEY"
MOST_INPUTS = 2048
HOLD_S = 0.05
CLIENT_GONE = 499
BAD_REQUEST = "invalid_request_error"
INVALID_INPUT = (
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
)
HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


@dataclasses.dataclass(frozen=True, slots=True)
class Behaviour:
    """How the server answers. Unless said otherwise everything is off and each answer is right."""

    dim: Annotated[int, msgspec.Meta(ge=1)] = 32
    model: str = "test-embedder"
    """The one model served; a request for another gets 404."""
    delay_ms: float = 0.0
    """Each request waits this long, all at the same time."""
    texts_per_s: float = 0.0
    """One GPU that works through the requests in the order they came, at this rate. 0: no limit."""
    hold_after: int = 0
    """Once so many texts were answered since the last reset, requests wait until this is raised or 0 (never)."""
    ignore_base64: bool = False
    shuffle: bool = False
    """`data` in another order, with the right `index`."""
    api_key: str = ""
    max_inputs: int = 0
    """More texts in a request get TEI's 422. 0: only OpenAI's own limit of 2048 (400)."""
    poison: str = ""
    """A request with a text that contains this gets 400."""
    wrong: Literal["", "short", "dim", "nan", "zero", "truncated", "html", "index"] = ""
    """The wrong answer, with status 200: `dim`, `nan` and `zero` spoil vectors, the others the body."""
    wrong_for: str = ""
    """Who gets it: `next:N` the next N requests; else requests with a text that contains this, of whose
    vectors only those of such texts are spoilt. Empty: everyone."""
    fail_status: int = 503
    fail_next: int = 0
    """The next N requests get `fail_status` and an OpenAI error."""
    retry_after: str | int = ""
    """The `retry-after` header of those."""
    drop_next: int = 0
    """The next N requests are read, then their connection is closed without an answer."""


def changed(behaviour: Behaviour, fields: dict[str, Any]) -> Behaviour:
    """`behaviour` with these fields replaced. Raises msgspec.ValidationError on a wrong name or value."""
    if unknown := fields.keys() - {field.name for field in dataclasses.fields(Behaviour)}:
        raise msgspec.ValidationError(f"no such behaviour: {', '.join(sorted(unknown))}")
    return msgspec.convert(dataclasses.asdict(behaviour) | fields, Behaviour)


def after_request(behaviour: Behaviour) -> Behaviour:
    """What is left of the counted behaviours when one request has had its share."""
    if behaviour.drop_next > 0:
        return dataclasses.replace(behaviour, drop_next=behaviour.drop_next - 1)
    if behaviour.fail_next > 0:
        return dataclasses.replace(behaviour, fail_next=behaviour.fail_next - 1)
    if behaviour.wrong and (left := _wrong_next(behaviour)):
        return dataclasses.replace(behaviour, wrong_for=f"next:{left - 1}")
    return behaviour


def _wrong_next(behaviour: Behaviour) -> int | None:
    """N if `wrong_for` is `next:N`."""
    prefix, _, count = behaviour.wrong_for.partition(":")
    return int(count) if prefix == "next" and count.isdecimal() else None


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class Embedding(msgspec.Struct):
    index: int
    embedding: bytes | list[float]  # msgspec writes bytes as base64
    object: str = "embedding"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after: str = ""
    right: Sequence[str] = ()
    """The texts whose right vector this answer holds."""


def read(body: bytes) -> EmbeddingRequest | Answer:
    """The request in `body`, or the 400 that says what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=EmbeddingRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refusal(400, str(error))


def key_refused(behaviour: Behaviour, authorization: str | None) -> Answer | None:
    """The 401 for a request that does not bring the key, if one is asked for."""
    if not behaviour.api_key or authorization == f"Bearer {behaviour.api_key}":
        return None
    return _refusal(401, "Incorrect API key provided", code="invalid_api_key")


def answer(behaviour: Behaviour, authorization: str | None, request: EmbeddingRequest | Answer) -> Answer:
    """What the server says to `request`, by `behaviour` alone."""
    if behaviour.fail_next > 0:
        return _failure(behaviour)
    if refusal := key_refused(behaviour, authorization):
        return refusal
    if isinstance(request, Answer):
        return request
    if request.model != behaviour.model:
        message = f"The model `{request.model}` does not exist or you do not have access to it."
        return _refusal(404, message, code="model_not_found")
    texts = request.texts
    if not texts or "" in texts or len(texts) > MOST_INPUTS:
        return _refusal(400, INVALID_INPUT)
    if 0 < behaviour.max_inputs < len(texts):
        message = f"batch size {len(texts)} > maximum allowed batch size {behaviour.max_inputs}"
        return Answer(422, msgspec.json.encode({"message": message, "code": 422, "type": "Validation"}))
    if behaviour.poison and any(behaviour.poison in text for text in texts):
        return _refusal(400, INVALID_INPUT)
    return _embeddings(behaviour, texts, request.encoding_format == "base64" and not behaviour.ignore_base64)


def _embeddings(behaviour: Behaviour, texts: list[str], base64: bool) -> Answer:
    spoilt = _spoilt(behaviour, texts) if behaviour.wrong else []
    wrong = behaviour.wrong if spoilt else ""
    if wrong == "html":
        return Answer(200, HTML, "text/html")

    vectors = vectors_of(texts, behaviour.dim)
    if wrong == "nan":
        vectors[spoilt, 0] = np.nan
    if wrong == "zero":
        vectors[spoilt] = 0
    rows = list(vectors)
    if wrong == "dim":
        for i in spoilt:
            rows[i] = rows[i][:-1]
    first = 1 if wrong == "index" else 0
    data = [Embedding(i, row.tobytes() if base64 else row.tolist()) for i, row in enumerate(rows, first)]
    if wrong == "short":
        data.pop()
    if behaviour.shuffle:  # by one place: unlike a reversal, doing it a second time does not undo it
        data = data[1:] + data[:1]

    tokens = sum(-(-len(text.encode()) // 4) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = msgspec.json.encode({"object": "list", "data": data, "model": behaviour.model, "usage": usage})
    if wrong in ("short", "index", "truncated"):
        return Answer(200, body[: len(body) // 2] if wrong == "truncated" else body)
    left_out = set(spoilt)
    return Answer(200, body, right=[text for i, text in enumerate(texts) if i not in left_out])


def _spoilt(behaviour: Behaviour, texts: list[str]) -> list[int]:
    """The positions of the texts that the wrong answer is for."""
    count = _wrong_next(behaviour)
    if count is not None:
        return list(range(len(texts))) if count > 0 else []
    return [i for i, text in enumerate(texts) if behaviour.wrong_for in text]


def _failure(behaviour: Behaviour) -> Answer:
    status = behaviour.fail_status
    kind = "server_error" if status >= 500 else "requests" if status == 429 else BAD_REQUEST
    code = "rate_limit_exceeded" if status == 429 else None
    refusal = _refusal(status, f"Simulated failure with status {status}", kind=kind, code=code)
    return dataclasses.replace(refusal, retry_after=str(behaviour.retry_after))


def _refusal(status: int, message: str, *, kind: str = BAD_REQUEST, code: str | None = None) -> Answer:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Answer(status, msgspec.json.encode({"error": error}))


@dataclasses.dataclass(slots=True)
class Stats:
    """What came in since the last reset, and what was said to that."""

    requests: int = 0
    texts: int = 0
    received: set[str] = dataclasses.field(default_factory=set)
    biggest_request: int = 0
    inflight: int = 0
    max_inflight: int = 0
    statuses: Counter[int] = dataclasses.field(default_factory=Counter)
    answered: int = 0
    seen: Counter[str] = dataclasses.field(default_factory=Counter)

    def begin(self) -> None:
        self.requests += 1
        self.inflight += 1
        self.max_inflight = max(self.max_inflight, self.inflight)

    def receive(self, texts: list[str]) -> None:
        self.texts += len(texts)
        self.received.update(texts)
        self.biggest_request = max(self.biggest_request, len(texts))

    def report(self) -> dict[str, Any]:
        """`texts`, `distinct_texts` and `biggest_request` count every readable request, refused ones too;
        `max_times_seen` only texts answered with their right vector. A dropped request has no status, one
        whose client was gone when the answer was ready counts as 499."""
        return {
            "requests": self.requests,
            "texts": self.texts,
            "distinct_texts": len(self.received),
            "biggest_request": self.biggest_request,
            "max_inflight": self.max_inflight,
            "max_times_seen": max(self.seen.values(), default=0),
            "statuses": {str(status): count for status, count in self.statuses.items()},
        }


class Service:
    """The state behind the routes: the behaviour, the stats and the GPU's queue."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.stats = Stats()
        self.gpu_free_at = 0.0

    async def embed(self, request: Request) -> Response:
        stats = self.stats  # to the end: what a reset leaves under way must not show in the new ones
        stats.begin()
        try:
            return await self._embed(request, stats)
        except ClientDisconnect:
            stats.statuses[CLIENT_GONE] += 1
            return Response(status_code=CLIENT_GONE)
        finally:
            stats.inflight -= 1

    async def _embed(self, request: Request, stats: Stats) -> Response:
        asked = read(await request.body())
        behaviour, self.behaviour = self.behaviour, after_request(self.behaviour)
        texts = asked.texts if isinstance(asked, EmbeddingRequest) else []
        stats.receive(texts)
        if behaviour.drop_next > 0:
            return await _hang_up(request)

        reply = answer(behaviour, request.headers.get("authorization"), asked)
        wait = behaviour.delay_ms / 1000
        if behaviour.texts_per_s > 0 and reply.status == 200:
            wait += self._gpu_seconds(len(texts) / behaviour.texts_per_s)
        if wait > 0:
            await _wait(request, wait)
        while 0 < self.behaviour.hold_after <= stats.answered:
            await _wait(request, HOLD_S)
        stats.statuses[reply.status] += 1
        stats.answered += len(reply.right)
        stats.seen.update(reply.right)
        headers = {"retry-after": reply.retry_after} if reply.retry_after else None
        return Response(reply.body, reply.status, headers, reply.content_type)

    def _gpu_seconds(self, work: float) -> float:
        """Takes the next `work` seconds of the GPU; how long until they are over."""
        now = asyncio.get_running_loop().time()
        self.gpu_free_at = max(now, self.gpu_free_at) + work
        return self.gpu_free_at - now

    async def models(self, request: Request) -> Response:
        if refusal := key_refused(self.behaviour, request.headers.get("authorization")):
            return Response(refusal.body, refusal.status, media_type=refusal.content_type)
        model = {"id": self.behaviour.model, "object": "model", "created": 0, "owned_by": "rayembed-tests"}
        return _ok({"object": "list", "data": [model]})

    async def health(self, request: Request) -> Response:
        return _ok({"status": "ok"})

    async def behave(self, request: Request) -> Response:
        try:
            fields = msgspec.json.decode(await request.body(), type=dict[str, Any])
            self.behaviour = changed(self.behaviour, fields)
        except msgspec.DecodeError as error:
            return Response(str(error), 400)
        return Response(status_code=204)

    async def report(self, request: Request) -> Response:
        return _ok(self.stats.report())

    async def seen(self, request: Request) -> Response:
        return _ok(self.stats.seen)

    async def reset(self, request: Request) -> Response:
        self.stats = Stats()
        self.gpu_free_at = 0.0
        return Response(status_code=204)


async def _wait(request: Request, seconds: float) -> None:
    """Raises ClientDisconnect when the client is gone afterwards."""
    await asyncio.sleep(seconds)
    if await request.is_disconnected():
        raise ClientDisconnect


def _ok(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _hang_up(request: Request) -> Response:
    request.state.transport.close()
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response()  # goes nowhere


class Connection(H11Protocol):
    """uvicorn's connection, with its transport left where `_hang_up` finds it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = self.app_state | {"transport": transport}


def application(behaviour: Behaviour) -> Starlette:
    service = Service(behaviour)
    routes = [
        Route("/v1/embeddings", service.embed, methods=["POST"]),
        Route("/v1/models", service.models),
        Route("/health", service.health),
        Route("/_behaviour", service.behave, methods=["POST"]),
        Route("/_stats", service.report),
        Route("/_seen", service.seen),
        Route("/_reset", service.reset, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="embedding_server", argument_default=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0)
    for field in dataclasses.fields(Behaviour):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(field.default))
    fields = vars(parser.parse_args())
    port = fields.pop("port")
    # a key on the command line would show in the process list
    fields.setdefault("api_key", os.environ.get(API_KEY_VARIABLE, ""))
    try:
        behaviour = changed(Behaviour(), fields)
    except msgspec.ValidationError as error:
        parser.error(str(error))

    config = uvicorn.Config(
        application(behaviour),
        port=port,
        http=Connection,
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    listener = config.bind_socket()
    listener.listen(config.backlog)
    print(f"READY {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

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
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.servers.behaviour import Behaviour, EmbeddingRequest, after_request, answer, changed, key_refused, read

API_KEY_VARIABLE = "EMBEDDING_SERVER_API_KEY"
HOLD_S = 0.05
CLIENT_GONE = 499


@dataclasses.dataclass(slots=True)
class Stats:
    """What came in since the last reset, and what was said to that."""

    requests: int = 0
    texts: int = 0
    received: set[str] = dataclasses.field(default_factory=set)
    biggest_request: int = 0
    inflight: int = 0
    max_inflight: int = 0
    held: int = 0
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
        `max_times_seen` only texts answered with their right vector; `held` are the requests that
        wait by `hold_after` now. A dropped request has no status, one whose client was gone when the answer was
        ready counts as 499."""
        return {
            "requests": self.requests,
            "texts": self.texts,
            "distinct_texts": len(self.received),
            "biggest_request": self.biggest_request,
            "max_inflight": self.max_inflight,
            "held": self.held,
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
        await self._hold(request, stats)
        stats.statuses[reply.status] += 1
        stats.answered += len(reply.right)
        stats.seen.update(reply.right)
        headers = {"retry-after": reply.retry_after} if reply.retry_after else None
        return Response(reply.body, reply.status, headers, reply.content_type)

    async def _hold(self, request: Request, stats: Stats) -> None:
        stats.held += 1
        try:
            while 0 < self.behaviour.hold_after <= stats.answered:
                await _wait(request, HOLD_S)
        finally:
            stats.held -= 1

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

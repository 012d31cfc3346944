"""The embedding server as an ASGI application; it knows nothing of ports and processes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from jobs.serve.backends import Backend, Encoded
from jobs.serve.engine import Engine, FullError
from jobs.serve.metrics import page
from jobs.serve.wire import ApiError, no_such_model, read_request, write_reply

Handler = Callable[[Request], Awaitable[Response]]


def create_app(backend: Backend, api_key: str | None = None, engine: Engine | None = None) -> Starlette:
    """OpenAI's `/v1/embeddings`, `/v1/models` and `/v1/models/NAME` for one model, also without `/v1`; `/health`
    and `/metrics`.

    `engine` None: one of `backend` with nothing set. With `api_key`, all but `/health` answer 401 to a request that
    does not bear it. Every error has OpenAI's envelope.
    """
    running = engine or Engine(backend)
    model = _model(backend)
    models = msgspec.json.encode({"object": "list", "data": [model]})

    async def embeddings(request: Request) -> Response:
        asked = read_request(await request.body(), backend)
        try:
            encoded = await _while_connected(request, running.embed(asked.texts))
        except FullError:
            raise ApiError(503, f"The server is overloaded: {len(asked.texts)} more texts may not wait.") from None
        # 2048 vectors as JSON floats would hold up every request.
        return _json(await running.beside(lambda: write_reply(asked, encoded, backend.name)))

    async def metrics(_: Request) -> Response:
        return Response(page(running.counters(), backend.name), media_type="text/plain; version=0.0.4")

    async def list_models(_: Request) -> Response:
        return _json(models)

    async def one_model(request: Request) -> Response:
        if request.path_params["name"] != backend.name:
            raise no_such_model(request.path_params["name"], backend)
        return _json(msgspec.json.encode(model))

    async def health(_: Request) -> Response:
        return _json(b'{"status":"ok"}')

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        running.close()

    guarded = _guard(api_key)
    routes = [Route("/health", health), Route("/metrics", guarded(metrics))]
    for prefix in ("/v1", ""):
        routes.append(Route(f"{prefix}/models", guarded(list_models)))
        routes.append(Route(f"{prefix}/models/{{name:path}}", guarded(one_model)))
        routes.append(Route(f"{prefix}/embeddings", guarded(embeddings), methods=["POST"]))
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            ClientDisconnect: _nobody_there,
            Exception: _unexpected,
        },
    )


async def _while_connected(request: Request, work: Coroutine[Any, Any, Encoded]) -> Encoded:
    """What `work` gives. Raises ClientDisconnect, and ends the work, when nobody waits for it any more."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()


def _guard(api_key: str | None) -> Callable[[Handler], Handler]:
    if api_key is None:
        return lambda handler: handler
    # Only the digest is kept; comparing digests also hides the key's length.
    expected = hashlib.sha256(f"Bearer {api_key}".encode()).digest()

    def guarded(handler: Handler) -> Handler:
        async def check(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(hashlib.sha256(given).digest(), expected):
                raise ApiError(401, "Incorrect or missing API key.", code="invalid_api_key")
            return await handler(request)

        return check

    return guarded


def _model(backend: Backend) -> dict[str, object]:
    return {
        "id": backend.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "rayembed",
        "max_model_len": backend.max_tokens,
        "n_embd": backend.dim,
    }


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _json(error.body(), error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    wrong = ApiError(error.status_code, f"{error.detail}: {request.method} {request.url.path}")
    response = _json(wrong.body(), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _nobody_there(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _unexpected(_: Request, error: Exception) -> Response:
    return _json(ApiError(500, f"The model failed: {type(error).__name__}: {error}").body(), 500)

"""What the stand-ins for vLLM, TEI, SGLang and Infinity have in common: HTTP in a thread, and a model.

Each of them is a small module beside this one that says what its server says, word for word as `wire.md` has it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.servers.vectors import vectors_of

RAW = np.float32(3)  # the length of vectors that were not made of length 1


@dataclass(frozen=True, slots=True)
class Model:
    """Vectors that depend on nothing but the text, or on its beginning where it is too long."""

    name: str = "test-embedder"
    dim: int = 32
    most_tokens: int = 512

    def tokens(self, text: str) -> int:
        """One a word, and two special ones."""
        return 2 + len(text.split())

    def cut(self, text: str) -> str:
        """What of it the model takes."""
        return text if self.tokens(text) <= self.most_tokens else " ".join(text.split()[: self.most_tokens - 2])

    def vectors(self, texts: Sequence[str], dimensions: int | None = None, raw: bool = False) -> Any:
        """float32[n, dim] of length 1, shortened first."""
        vectors = vectors_of([self.cut(text) for text in texts], self.dim)[:, :dimensions]
        if dimensions:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors * RAW if raw else vectors


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: bytes go out as they are, all else as JSON."""

    body: object
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class HostedServer:
    """One server on 127.0.0.1 until the `with` block ends. `asked` are the requests that had a body."""

    def __init__(self, model: Model | None = None) -> None:
        self.model = model or Model()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.metrics = b""  # its page; empty: there is none
        app = Starlette(routes=[Route("/{path:path}", self._respond, methods=["GET", "POST"])])
        config = uvicorn.Config(app, port=0, lifespan="off", log_level="warning", access_log=False)
        self._listener = config.bind_socket()
        self._listener.listen(config.backlog)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def asked_at(self, path: str) -> list[dict[str, Any]]:
        """The bodies that came there."""
        return [body for at, body in self.asked if at == path]

    def page(self, path: str) -> object | None:
        """The answer to GET; None: there is no such page."""
        raise NotImplementedError

    async def said(self, path: str, body: dict[str, Any]) -> Said | None:
        """The answer to POST; None: there is no such route."""
        raise NotImplementedError

    def refused(self, request: Request, size: int) -> Said | None:
        """What is said before the request is looked at."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    async def _respond(self, request: Request) -> Response:
        content = await request.body()
        answer = self.refused(request, len(content))
        if answer is None and request.method == "GET":
            page = (self.metrics or None) if request.url.path == "/metrics" else self.page(request.url.path)
            answer = None if page is None else Said(page)
        elif answer is None:
            body = msgspec.json.decode(content)
            self.asked.append((request.url.path, body))
            answer = await self.said(request.url.path, body)
        answer = answer or Said({"detail": "Not Found"}, 404)
        body = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        return Response(body, answer.status, answer.headers, answer.content_type)


def openai_list(
    vectors: npt.NDArray[np.float32], model: str, tokens: int, encoding: str | None = None, **more: object
) -> dict[str, object]:
    """An embedding list, as base64 or, unless that is the `encoding`, as numbers."""
    rows = [row.tobytes() if encoding == "base64" else row.tolist() for row in vectors]
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage, **more}


async def pause() -> None:
    """Long enough for other requests to come meanwhile."""
    await asyncio.sleep(0.005)

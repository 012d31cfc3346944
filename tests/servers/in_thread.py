"""A server in a thread of the test's own process, whose state the test reads and sets as it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Protocol

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response

from tests.servers.vectors import vectors_of


@dataclass
class Asked:
    """What came to a server's embedding routes, and how often each text was answered with its vector."""

    requests: list[tuple[str, bytes]] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)
    most_texts: int = 0

    def answered(self, texts: Sequence[str]) -> None:
        self.texts.update(texts)
        self.most_texts = max(self.most_texts, len(texts))

    def routes(self) -> set[str]:
        return {route for route, _ in self.requests}


class Fake(Protocol):
    def application(self) -> Starlette: ...


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = Event()

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        self.ready.set()


@contextmanager
def serving(application: Starlette) -> Iterator[str]:
    """The base URL of `application` until the block ends."""
    config = uvicorn.Config(
        application, port=0, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    listener = config.bind_socket()
    listener.listen(config.backlog)
    server = _Server(config)
    thread = Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    try:
        assert server.ready.wait(30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


class Servers:
    """Those of one test, which end with it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, fake: Fake) -> str:
        """Its base URL."""
        return self._stack.enter_context(serving(fake.application()))


@pytest.fixture
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


def in_json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def tokens_of(text: str) -> int:
    """As these servers count: one a word, and two around them."""
    return len(text.split()) + 2


def embedding_list(texts: Sequence[str], dim: int, as_base64: bool, model: str) -> dict[str, object]:
    """OpenAI's answer."""
    rows = vectors_of(texts, dim)
    count = sum(map(tokens_of, texts))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": row.tobytes() if as_base64 else row.tolist()}
            for i, row in enumerate(rows)
        ],
        "model": model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }

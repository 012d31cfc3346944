"""A server that says just what a test tells it to, and a lane to it, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from actors.corpus import Rows
from actors.embedder.client import EmbeddingClient
from actors.embedder.lane import Lane
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Window
from actors.messages import Endpoint, Order, Part
from tests.servers.vectors import vectors_of

DIM = 32
HANG_UP = 0
Said = int | tuple[int, str]  # the status, with what the error or the page says; 200 alone: the right vectors
Say = Callable[[list[str]], Said | Awaitable[Said]]


class Server:
    """Answers each request as `say` says of its texts."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked: list[list[str]] = []
        self.error_type = ""
        self.usage: int | None = None
        self.headers = ""  # of its answers, each with its line's end

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                texts = msgspec.json.decode(await reader.readexactly(length))["input"]
                self.asked.append(texts)
                said = self._say(texts)
                said = await said if isinstance(said, Awaitable) else said
                status, message = (said, "as told") if isinstance(said, int) else said
                if status == HANG_UP:
                    break
                body = msgspec.json.encode({"error": {"message": message, "type": self.error_type}})
                if status == 200 and not isinstance(said, int):
                    body = message.encode()
                elif status == 200:
                    rows = [
                        {"index": i, "embedding": row.tobytes()} for i, row in enumerate(vectors_of(texts, DIM))
                    ]
                    usage = {} if self.usage is None else {"usage": {"prompt_tokens": self.usage}}
                    body = msgspec.json.encode({"data": rows} | usage)
                more = self.headers.encode()
                head = b"HTTP/1.1 %d X\r\n%scontent-length: %d\r\n\r\n" % (status, more, len(body))
                writer.write(head + body)
        writer.close()


@asynccontextmanager
async def serving(say: Say) -> AsyncIterator[tuple[str, Server]]:
    """The URL of a server, and the server."""
    server = Server(say)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", server
    finally:
        listening.close()


@asynccontextmanager
async def lane_to(
    say: Say,
    patience_s: float = 30.0,
    *,
    window: Window | None = None,
    truncate: bool = True,
    elsewhere: Callable[[], bool] = lambda: False,
    **about: Any,
) -> AsyncIterator[tuple[Lane, Server]]:
    """`about` are fields of the endpoint."""
    async with serving(say) as (url, server):
        client = EmbeddingClient(replace(Endpoint(url, "m", "openai", None), **about))
        order = Order(4, 1024, 1 << 20)
        lane = Lane(client, DIM, patience_s, order, window or Window(), truncate=truncate, elsewhere=elsewhere)
        try:
            yield lane, server
        finally:
            await lane.aclose()
            await client.aclose()


def opened(texts: list[str]) -> OpenPart:
    return OpenPart(Part(0, "part", 0, 0, len(texts)), Rows(list(texts), None, ()), DIM, "float32")


async def deliver(lane: Lane, texts: list[str]) -> list[tuple[int, str, int | None]]:
    """The rejects; all other rows have the vector of their text."""
    part, window = opened(texts), lane._window
    window.add(part)
    batch = window.take(len(texts), 1 << 20)
    assert batch is not None
    lane.start()
    await lane.deliver(batch)
    assert part.complete
    window.forget(part)
    good = [row for row in range(len(texts)) if row not in part._rejects]
    np.testing.assert_array_equal(part._vectors[good], vectors_of(texts, DIM)[good])
    return [(each.row, each.reason, each.status) for each in part._rejects.values()]

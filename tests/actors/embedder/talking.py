"""Servers that say just these bytes over a real socket, and an httpx client over the transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvloop

from actors.embedder.transport import WholeBodyTransport

BODY = bytes(range(256)) * 1200  # more than a socket takes at once

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

in_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class Server:
    """`talk` is what it does with each connection; it counts them, and closes each when `talk` is over."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.url = ""
        self.connections = 0
        self.closed_by_client = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed_by_client.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[Server]:
    server = Server(talk)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/path?query"
    yield server
    listener.close()


@asynccontextmanager
async def client_with(read_s: float = 30.0, connect_s: float = 30.0) -> AsyncIterator[httpx.AsyncClient]:
    timeout = httpx.Timeout(read_s, connect=connect_s)
    async with httpx.AsyncClient(transport=WholeBodyTransport(), timeout=timeout) as client:
        yield client


async def request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((line[15:] for line in lines if line.startswith(b"content-length:")), b"0")
    return head, await reader.readexactly(int(length))


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def always(said: bytes) -> Talk:
    """Answers each request on a connection with these very bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(said)

    return talk


def once(*said: bytes) -> Talk:
    """Answers the first requests on a connection with these very bytes and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in said:
            await request(reader)
            writer.write(each)

    return talk


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens soon; fail when it does not."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen")

"""What a connection does when things happen at moments that no server can choose."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from actors.embedder.bodies import Bodies
from actors.embedder.connection import ClosedUnheardError, Connection, Reply
from tests.actors.embedder.talking import Run, in_both_loops, until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n5"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection and the server's end of it."""
    left, right = socket.socketpair()
    with right:
        right.setblocking(False)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(Bodies()), sock=left)
        yield connection, right
        connection.close()


async def test_an_answer_that_comes_while_its_request_is_cancelled() -> None:
    async with connected() as (connection, _):
        asking = asyncio.create_task(connection.exchange([b"request"], 30.0))
        await asyncio.sleep(0)
        asking.cancel()
        connection.get_buffer(-1)[: len(ANSWER)] = ANSWER
        connection.buffer_updated(len(ANSWER))
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not connection.is_open


@in_both_loops
def test_a_connection_that_was_lost_before_it_was_used(run: Run) -> None:
    async def ask() -> None:
        async with connected() as (connection, server):
            server.close()
            await until(lambda: not connection.is_open)
            with pytest.raises(ClosedUnheardError):
                await connection.exchange([b"request"], 30.0)

    run(ask())


@in_both_loops
def test_patience_begins_when_the_request_is_sent(run: Run) -> None:
    async def ask() -> None:
        async with connected() as (connection, server):
            request = b"x" * (1 << 23)
            asking = asyncio.create_task(connection.exchange([request], None))
            await asyncio.sleep(0.01)
            began = connection.moved_at
            left = len(request)
            while left:
                left -= len(await asyncio.get_running_loop().sock_recv(server, left))
            await until(lambda: connection.moved_at > began)
            server.send(ANSWER)
            assert (await asking).body == b"5"

    run(ask())


class Clock:
    """In place of a loop: what is due happens when a test says what time it is."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: dict[asyncio.Future[None], tuple[float, Callable[[], None]]] = {}

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Reply]:
        return asyncio.get_running_loop().create_future()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.Future[None]:
        handle = asyncio.get_running_loop().create_future()  # can be cancelled, which is all that matters
        self._due[handle] = self.now + delay_s, call
        return handle

    @property
    def awaited(self) -> bool:
        return any(not handle.cancelled() for handle in self._due)

    def set(self, now: float) -> None:
        self.now = now
        for handle, (at, call) in list(self._due.items()):
            if at <= now:
                del self._due[handle]
                if not handle.cancelled():
                    call()


class Wire(asyncio.Transport):
    """In place of a socket; `left` bytes of the request are not sent yet."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self._closing = False

    def writelines(self, _: object) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.left

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._closing = True


@asynccontextmanager
async def asking(left: int = 0) -> AsyncIterator[tuple[asyncio.Task[Reply], Connection, Wire, Clock]]:
    """A request that may stand still for a second, sent at the time 0."""
    connection, wire, clock = Connection(Bodies()), Wire(), Clock()
    connection._loop = clock  # type: ignore[assignment]
    connection.connection_made(wire)
    wire.left = left
    task = asyncio.create_task(connection.exchange([b"request"], 1.0))
    await asyncio.sleep(0)
    yield task, connection, wire, clock


def hear(connection: Connection, said: bytes) -> None:
    while said:
        room = connection.get_buffer(-1)
        part = said[: len(room)]
        room[: len(part)] = part
        connection.buffer_updated(len(part))
        said = said[len(part) :]


async def test_silence_is_over_with_every_piece() -> None:
    async with asking() as (task, connection, _, clock):
        for i in range(len(ANSWER)):
            clock.set(0.9 * i)
            hear(connection, ANSWER[i : i + 1])
        assert (await task).body == b"5"
        assert not clock.awaited


@pytest.mark.parametrize("heard", [0, 1, len(ANSWER) - 1])
async def test_silence_for_longer_than_there_is_patience(heard: int) -> None:
    async with asking() as (task, connection, _, clock):
        clock.set(0.5)
        hear(connection, ANSWER[:heard])
        clock.set(1.4 if heard else 0.9)
        assert connection.is_open
        clock.set(1.0)
        clock.set(1.5)
        assert not connection.is_open
        with pytest.raises(httpx.ReadTimeout):
            await task


async def test_a_request_that_goes_out_slowly_is_not_silence() -> None:
    async with asking(left=3) as (task, connection, wire, clock):
        for now, wire.left in ((1.0, 2), (2.0, 1), (3.0, 0)):
            clock.set(now)
            assert connection.is_open
        clock.set(4.0)
        with pytest.raises(httpx.ReadTimeout):
            await task


async def test_a_request_that_does_not_go_out() -> None:
    async with asking(left=3) as (task, _, wire, clock):
        wire.left = 2
        clock.set(1.0)
        clock.set(2.0)
        with pytest.raises(httpx.ReadTimeout):
            await task

"""Answers that are more than may lie in memory at the same time: the rest waits at the server, and none is lost."""

from __future__ import annotations

import asyncio
import gc

import httpx
import pytest

from actors.embedder import bodies
from actors.embedder.transport import WholeBodyTransport, body_of
from tests.actors.embedder.talking import (
    Run,
    Talk,
    always,
    answer,
    client_with,
    in_both_loops,
    request,
    serving,
    until,
)

BODY = bytes(range(256)) * 40_000  # more than sockets hold on both sides


@pytest.fixture(autouse=True)
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_FILLED_BYTES", 2 * len(BODY))


def came(client: httpx.AsyncClient) -> int:
    """Bytes of the answers that may be filled."""
    assert isinstance(client._transport, WholeBodyTransport)
    return client._transport._bodies._filled_bytes


def waiting(client: httpx.AsyncClient) -> int:
    assert isinstance(client._transport, WholeBodyTransport)
    return len([each for each in client._transport._bodies._waiting if not each.is_over])


@in_both_loops
def test_all_come_when_each_is_given_back(run: Run) -> None:
    async def one(client: httpx.AsyncClient, url: str) -> None:
        async with client.stream("POST", url) as response:
            assert bytes(await body_of(response)) == BODY
            assert came(client) <= 2 * len(BODY)
            await asyncio.sleep(0.01)

    async def ask() -> None:
        async with serving(always(answer(BODY))) as server, client_with() as client:
            await asyncio.gather(*(one(client, server.url) for _ in range(9)))
            assert (came(client), waiting(client)) == (0, 0)

    run(ask())


async def test_what_waits_is_not_taken_for_a_server_that_stands_still() -> None:
    async with serving(always(answer(BODY))) as server, client_with(read_s=0.2) as client:
        async with client.stream("POST", server.url), client.stream("POST", server.url):
            third = asyncio.create_task(client.post(server.url))
            await until(lambda: waiting(client) == 1)
            await asyncio.sleep(0.6)
            assert not third.done()
        assert (await third).content == BODY


async def test_a_server_that_stands_still_when_its_turn_has_come_is_noticed() -> None:
    half = answer(BODY)[: len(BODY) // 2]
    async with serving(always(half)) as server, client_with(read_s=0.3) as client:
        asked = (client.post(server.url) for _ in range(4))
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in failed] == [httpx.ReadTimeout] * 4
        assert (came(client), waiting(client)) == (0, 0)


async def test_one_that_is_larger_than_the_room_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_FILLED_BYTES", len(BODY) // 2)
    async with serving(always(answer(BODY))) as server, client_with() as client:
        read = await asyncio.gather(*(client.post(server.url) for _ in range(3)))
    assert [each.content == BODY for each in read] == [True] * 3


async def test_small_ones_do_not_wait() -> None:
    big, small = always(answer(BODY)), always(answer(b"small"))
    async with (
        serving(big) as server,
        serving(small) as other,
        client_with() as client,
        client.stream("POST", server.url),
        client.stream("POST", server.url),
    ):
        assert (await client.post(other.url)).content == b"small"


async def test_one_that_is_given_up_makes_room_for_the_next() -> None:
    async with serving(always(answer(BODY))) as server, client_with() as client:
        async with client.stream("POST", server.url), client.stream("POST", server.url):
            waits = [asyncio.create_task(client.post(server.url)) for _ in range(2)]
            await until(lambda: waiting(client) == 2)
            waits[0].cancel()
            await until(lambda: waiting(client) == 1)
        assert (await waits[1]).content == BODY
        assert (came(client), waiting(client)) == (0, 0)


def hanging_up(said: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)
        await writer.drain()

    return talk


async def test_one_that_breaks_off_makes_room_for_the_next() -> None:
    half, whole = hanging_up(answer(BODY)[: len(BODY) // 2]), always(answer(BODY))
    async with serving(half) as server, serving(whole) as other, client_with() as client:
        broken = [asyncio.create_task(client.post(server.url)) for _ in range(2)]
        read = await asyncio.gather(*(client.post(other.url) for _ in range(2)))
        failed = await asyncio.gather(*broken, return_exceptions=True)
        assert [type(each) for each in failed] == [httpx.ReadError] * 2
        assert [each.content == BODY for each in read] == [True] * 2
        assert (came(client), waiting(client)) == (0, 0)


async def test_what_somebody_has_a_view_of_counts_until_it_is_let_go() -> None:
    async with serving(always(answer(BODY))) as server, client_with() as client:
        views = []
        for _ in range(2):
            async with client.stream("POST", server.url) as response:
                views.append(memoryview(await body_of(response))[5:])
        del response
        third = asyncio.create_task(client.post(server.url))
        await until(lambda: waiting(client) == 1)
        assert came(client) == 2 * len(BODY)
        views.pop().release()
        gc.collect()
        assert (await third).content == BODY

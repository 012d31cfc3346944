"""Bodies with no copy: whose memory they are in, when it is used again, and when not."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable

import httpx
import pytest

from actors.embedder.bodies import Bodies
from actors.embedder.transport import WholeBodyTransport, body_of
from tests.actors.embedder.talking import (
    BODY,
    Run,
    Talk,
    always,
    answer,
    client_with,
    in_both_loops,
    request,
    serving,
)


def in_turn(bodies: Iterable[bytes]) -> Talk:
    """Answers with one after the other, over one connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in bodies:
            await request(reader)
            writer.write(answer(body))
        await reader.read()

    return talk


def kept(client: httpx.AsyncClient) -> list[object]:
    """Memory that the next answer may have."""
    assert isinstance(client._transport, WholeBodyTransport)
    bodies: Bodies = client._transport._bodies
    return list(bodies._idle)


async def test_an_answer_lies_where_the_one_before_lay() -> None:
    async with serving(in_turn([BODY, BODY[::-1]])) as server, client_with() as client:
        async with client.stream("POST", server.url) as response:
            first = await body_of(response)
            assert first[:] == BODY
        async with client.stream("POST", server.url) as response:
            assert await body_of(response) is first
            assert first[:] == BODY[::-1]


async def test_answers_that_come_together_lie_apart() -> None:
    async with serving(always(answer(BODY))) as server, client_with() as client:
        async with client.stream("POST", server.url) as one, client.stream("POST", server.url) as other:
            assert await body_of(one) is not await body_of(other)
        assert len(kept(client)) == 2


async def test_what_somebody_has_a_view_of_is_not_overwritten() -> None:
    async with serving(in_turn([BODY, BODY[::-1]])) as server, client_with() as client:
        async with client.stream("POST", server.url) as response:
            view = memoryview(await body_of(response))[1000:2000]
        assert not kept(client)
        await client.post(server.url)
        assert view == BODY[1000:2000]


@in_both_loops
def test_what_httpx_read_is_not_overwritten(run: Run) -> None:
    bodies = [BODY, BODY[:-5], BODY + b"12345", BODY[: len(BODY) // 2 + 5], b"", BODY[:5], BODY[::-1]]

    async def ask() -> None:
        async with serving(in_turn(bodies)) as server, client_with() as client:
            read = [(await client.post(server.url)).content for _ in bodies]
            assert kept(client)
        assert read == bodies

    run(ask())


async def test_an_answer_that_came_packed_is_unpacked() -> None:
    said = answer(gzip.compress(BODY), "Content-Encoding: gzip")
    async with serving(always(said)) as server, client_with() as client:
        for _ in range(2):
            async with client.stream("POST", server.url) as response:
                assert await body_of(response) == BODY


async def test_memory_that_was_not_lent_is_not_kept() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    async with serving(always(said)) as server, client_with() as client:
        for _ in range(3):
            async with client.stream("POST", server.url) as response:
                assert await body_of(response) == BODY
        assert not kept(client)


async def test_memory_is_given_back_once() -> None:
    async with serving(always(answer(BODY))) as server, client_with() as client:
        async with client.stream("POST", server.url) as response:
            await response.aread()
            assert len(kept(client)) == 1
        assert isinstance(response.stream, httpx.AsyncByteStream)
        await response.stream.aclose()
        assert len(kept(client)) == 1


async def test_pieces_that_httpx_gave_are_bytes_of_their_own() -> None:
    async with serving(in_turn([BODY, BODY[::-1]])) as server, client_with() as client:
        async with client.stream("POST", server.url) as response:
            pieces = [piece async for piece in response.aiter_raw()]
        await client.post(server.url)
    assert pieces == [BODY]


async def test_memory_of_an_answer_that_did_not_come_whole_is_not_given_back() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer(BODY)[:-1])

    async with serving(talk) as server, client_with() as client:
        with pytest.raises(httpx.ReadError):
            await client.post(server.url)
        assert not kept(client)

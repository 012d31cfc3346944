"""How the transport makes, keeps and gives up connections."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from tests.actors.embedder.talking import (
    BODY,
    Run,
    Server,
    always,
    answer,
    client_with,
    in_both_loops,
    once,
    request,
    serving,
)

HEAD = b"HTTP/1.1 200 OK\r\n"


def a_port_where_nobody_listens() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# making


@in_both_loops
def test_a_connection_that_is_refused(run: Run) -> None:
    async def ask() -> None:
        async with client_with() as client:
            with pytest.raises(httpx.ConnectError, match=r"^connection refused$"):
                await client.get(f"http://127.0.0.1:{a_port_where_nobody_listens()}/")

    run(ask())


@in_both_loops
def test_a_connection_that_does_not_come_about(run: Run) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def ask() -> None:
        async with serving(silent) as server, client_with(connect_s=0.05) as client:
            asking = client.get(server.url.replace("http:", "https:"))  # it never says hello
            with pytest.raises(httpx.ConnectTimeout):
                await asyncio.wait_for(asking, 20)

    run(ask())


@pytest.mark.parametrize("last", [True, False])
async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch, last: bool) -> None:
    async with serving(always(answer(b"5"))) as server, client_with() as client:
        ports = [a_port_where_nobody_listens(), httpx.URL(server.url).port or 0]
        if not last:
            ports[1] = a_port_where_nobody_listens()

        async def addresses(_: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr("actors.embedder.transport._addresses", addresses)
        if last:
            assert (await client.get("http://a.name/")).content == b"5"
        else:
            with pytest.raises(httpx.ConnectError, match=r"^connection refused$"):
                await client.get("http://a.name/")


async def test_the_addresses_of_a_name_are_looked_up() -> None:
    async with serving(always(answer(b"5"))) as server, client_with() as client:
        assert (await client.get(server.url.replace("127.0.0.1", "localhost"))).content == b"5"


# keeping


async def test_as_many_connections_as_requests_and_each_is_kept() -> None:
    arrived, all_there = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while True:
            _, body = await request(reader)
            arrived += 1
            if arrived == 60:
                all_there.set()
            await all_there.wait()
            writer.write(answer(body))

    async with serving(talk) as server, client_with() as client:
        for _ in range(3):
            asked = [client.post(server.url, content=b"%d" % i) for i in range(60)]
            replies = await asyncio.gather(*asked)
            assert [each.content for each in replies] == [b"%d" % i for i in range(60)]
        assert server.connections == 60


@pytest.mark.parametrize(
    "said",
    [
        answer(b"5", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n5",
        answer(b"5") + b"more",
        answer(b"5") + answer(b"6"),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n5\r\n0\r\n\r\nmore",
    ],
)
async def test_a_connection_after_which_anything_may_come_is_not_used_again(said: bytes) -> None:
    async with serving(always(said)) as server, client_with() as client:
        for _ in range(2):
            assert (await client.post(server.url, content=b"texts")).content == b"5"
        assert server.connections == 2


async def test_what_comes_unasked_ends_the_connection() -> None:
    answered = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer(b"5"))
        await answered.wait()
        writer.write(answer(b"6"))
        await reader.readexactly(1)

    async with serving(talk) as server, client_with() as client:
        assert (await client.post(server.url, content=b"texts")).content == b"5"
        answered.set()
        await asyncio.wait_for(server.closed_by_client.wait(), 30)
        assert (await client.post(server.url, content=b"texts")).content == b"5"


async def test_a_connection_that_nobody_used_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedder.transport._KEEP_S", -1.0)
    async with serving(always(answer(b"5"))) as server, client_with() as client:
        for _ in range(2):
            await client.post(server.url, content=b"texts")
        assert server.connections == 2
        await asyncio.wait_for(server.closed_by_client.wait(), 30)


async def test_no_connection_stays_when_the_client_is_closed() -> None:
    async with serving(always(answer(b"5"))) as server:
        async with client_with() as client:
            await client.post(server.url, content=b"texts")
        await asyncio.wait_for(server.closed_by_client.wait(), 30)


# giving up


@in_both_loops
def test_a_kept_connection_that_the_server_closes_on_the_next_request_is_no_error(run: Run) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer(b"5"))
        await request(reader)

    async def ask() -> None:
        async with serving(talk) as server, client_with() as client:
            for connections in (1, 2, 3):
                assert (await client.post(server.url, content=b"texts")).content == b"5"
                assert server.connections == connections

    run(ask())


async def test_a_request_is_sent_once_more_and_not_twice() -> None:
    said = [answer(b"5"), b"", b""]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            each = said.pop(0)
            if not each:
                return
            writer.write(each)

    async with serving(talk) as server, client_with() as client:
        await client.post(server.url, content=b"texts")
        with pytest.raises(httpx.ReadError, match="the server closed the connection"):
            await client.post(server.url, content=b"texts")
        assert server.connections == 2
    assert not said


async def test_a_server_that_ends_with_a_request_is_told_from_one_that_is_not_there() -> None:
    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer(b"5"))
        await request(reader)
        listener.close()

    listener = await asyncio.start_server(Server(ends).serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with client_with() as client:
        await client.post(url, content=b"texts")
        with pytest.raises(httpx.ReadError, match="the server closed the connection"):
            await client.post(url, content=b"texts")
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=b"texts")


async def test_a_request_of_which_the_server_said_something_is_not_sent_again() -> None:
    async with serving(once(answer(b"5"), b"HTTP")) as server, client_with() as client:
        await client.post(server.url, content=b"texts")
        with pytest.raises(httpx.ReadError, match="ended within an answer"):
            await client.post(server.url, content=b"texts")
        assert server.connections == 1


async def test_an_answer_before_the_whole_request_was_sent_counts() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"too large", status="413 Content Too Large"))
        await reader.readexactly(1 << 30)

    async with serving(talk) as server, client_with() as client:
        response = await client.post(server.url, content=b"x" * (1 << 26))
        assert (response.status_code, response.content) == (413, b"too large")
        await asyncio.wait_for(server.closed_by_client.wait(), 30)
        assert server.connections == 1


@in_both_loops
@pytest.mark.parametrize("said", [b"", HEAD, answer(BODY)[:-1]], ids=["nothing", "a line", "nearly all"])
def test_silence(run: Run, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)
        await reader.readexactly(1)  # until the client leaves

    async def ask() -> None:
        async with serving(talk) as server, client_with(read_s=0.05) as client:
            with pytest.raises(httpx.ReadTimeout, match=r"nothing came for 0.05 s"):
                await asyncio.wait_for(client.post(server.url, content=b"texts"), 20)
            await asyncio.wait_for(server.closed_by_client.wait(), 30)
            assert server.connections == 1

    run(ask())


async def test_each_request_has_its_own_patience() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await request(reader)
            if body != b"silence":
                writer.write(answer(body))

    async with serving(talk) as server, client_with(read_s=30.0) as client:
        assert (await client.post(server.url, content=b"1")).content == b"1"
        with pytest.raises(httpx.ReadTimeout):
            await client.post(server.url, content=b"silence", timeout=httpx.Timeout(0.05))
        response = await client.post(server.url, content=b"2", timeout=httpx.Timeout(None))
        assert response.content == b"2"


@in_both_loops
@pytest.mark.parametrize("began", [b"", HEAD, answer(BODY)[:-1]], ids=["nothing", "a line", "nearly all"])
def test_a_cancelled_request_closes_its_connection(run: Run, began: bytes) -> None:
    async def ask() -> None:
        asked = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(began)
            asked.set()
            await reader.readexactly(1)

        async with serving(talk) as server, client_with() as client:
            asking = asyncio.create_task(client.post(server.url, content=b"texts"))
            await asked.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.wait_for(server.closed_by_client.wait(), 30)

    run(ask())

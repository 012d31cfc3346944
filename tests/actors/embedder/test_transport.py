"""The transport against servers that speak HTTP in every way that servers do, and in some that none should."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest

from tests.actors.embedder.talking import (
    BODY,
    Run,
    Talk,
    always,
    answer,
    client_with,
    in_both_loops,
    once,
    request,
    serving,
)

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"".join(b"%x;note=1\r\n%s\r\n" % (len(each), each) for each in (BODY[:1], BODY[1:777], BODY[777:]))
FORMS = {
    "length": answer(BODY),
    "small": answer(b"x" * 5000),
    "empty": answer(b""),
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"0\r\nX-Trailer: 1\r\n\r\n",
    "until it hangs up": HEAD + b"\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "packed": answer(gzip.compress(BODY), "Content-Encoding: gzip"),
    "after others": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + answer(BODY),
    "many headers": answer(BODY, *(f"X-{i}: {'y' * 100}" for i in range(300))),
    "a long header": answer(BODY, "metadata: " + "x" * 44_358),
    "a very long header": answer(BODY, "metadata: " + "x" * 230_000),
    "length in capitals": HEAD + b"CONTENT-LENGTH:   %d  \r\n\r\n%s" % (len(BODY), BODY),
    "more than its length": answer(BODY) + b"more",
}
BODIES = {"small": b"x" * 5000, "empty": b""}


async def reply_to(talk: Talk, method: str = "POST", body: bytes = b"texts") -> httpx.Response:
    async with serving(talk) as server, client_with() as client:
        return await client.request(method, server.url, content=body)


async def error_of(talk: Talk) -> httpx.RequestError:
    async with serving(talk) as server, client_with() as client:
        with pytest.raises(httpx.RequestError) as raised:
            await client.post(server.url, content=b"texts")
    return raised.value


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b""), ("POST", BODY * 10)])
async def test_what_is_sent(method: str, body: bytes) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(answer(b"", "X-Name: Value", status="201 Created"))

    async with serving(talk) as server, client_with() as client:
        response = await client.request(method, server.url, content=body, headers={"x-key": "a key"})
        host = server.url.removeprefix("http://").removesuffix("/path?query")
    assert (response.status_code, response.content, response.headers["x-name"]) == (201, b"", "Value")
    assert response.http_version == "HTTP/1.1"
    (head, sent), lines = seen[0], seen[0][0].decode().split("\r\n")
    assert lines[0] == f"{method} /path?query HTTP/1.1"
    assert {f"host: {host}", "x-key: a key"} < {line.replace("Host", "host") for line in lines}
    assert (b"content-length" in head.lower()) is (method == "POST")
    assert sent == body


async def test_a_user_in_the_url_is_sent_as_such() -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await request(reader))[0])
        writer.write(answer(b""))

    async with serving(talk) as server, client_with() as client:
        await client.get(server.url.replace("//", "//Aladdin:open%20sesame@"))
    assert b"authorization: basic qwxhzgrpbjpvcgvuihnlc2ftzq==\r\n" in seen[0].lower()
    assert b"Aladdin" not in seen[0]


@in_both_loops
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_in_any_form(run: Run, form: str) -> None:
    response = run(reply_to(once(FORMS[form])))
    assert response.status_code == 200
    assert response.content == BODIES.get(form, BODY)
    assert not {"link", "x-trailer"} & set(response.headers)
    if "metadata:" in FORMS[form][:200].decode(errors="replace"):
        assert len(response.headers["metadata"]) >= 44_358


@in_both_loops
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_comes_in_drops(run: Run, form: str) -> None:
    said = FORMS[form]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        at = said.index(b"\r\n\r\n") + 20
        step = max(1, at // 1000)
        for i in range(0, at, step):
            writer.write(said[i : min(i + step, at)])
            await asyncio.sleep(0)
        writer.write(said[at:])

    assert run(reply_to(talk)).content == BODIES.get(form, BODY)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_never_has_a_body(status: str) -> None:
    said = f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n".encode()
    async with serving(always(said)) as server, client_with() as client:
        for _ in range(2):
            response = await client.post(server.url, content=b"texts")
            assert (response.status_code, response.content) == (int(status[:3]), b"")
        assert server.connections == 1


@in_both_loops
@pytest.mark.parametrize(
    ("said", "kind", "why"),
    [
        (b"", httpx.ReadError, "the server closed the connection"),
        (b"HTTP/1.1 200", httpx.ReadError, "ended within an answer"),
        (answer(BODY)[:-1], httpx.ReadError, "ended within an answer"),
        (FORMS["chunks"][:-1], httpx.ReadError, "ended within an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", httpx.ReadError, "ended within an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", httpx.RemoteProtocolError, "not HTTP"),
        (HEAD + b"Content-Length: five\r\n\r\n", httpx.RemoteProtocolError, "not HTTP"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nfive!", httpx.RemoteProtocolError, "not HTTP"),
        (
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            httpx.RemoteProtocolError,
            "not HTTP",
        ),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", httpx.RemoteProtocolError, "not HTTP"),
        (
            HEAD + b"Content-Length: 9999999999999\r\n\r\n",
            httpx.RemoteProtocolError,
            "a body of 9,999,999,999,999 bytes",
        ),
        (HEAD + b"X: " + b"y" * 2_000_000, httpx.RemoteProtocolError, "its head has no end"),
        (
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            httpx.RemoteProtocolError,
            "not HTTP",
        ),
        (answer(b"plain", "Content-Encoding: gzip"), httpx.DecodingError, "header"),
    ],
    ids=range(14),
)
def test_what_is_no_answer(run: Run, said: bytes, kind: type[Exception], why: str) -> None:
    error = run(error_of(once(said)))
    assert isinstance(error, kind)
    assert why in str(error)


@in_both_loops
def test_a_server_that_hangs_up_at_once(run: Run) -> None:
    assert "the server closed the connection" in str(run(error_of(once())))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "nothing", "http://127.0.0.1:99999/"])
async def test_what_is_no_url_of_a_web_server(url: str) -> None:
    async with client_with() as client:
        with pytest.raises(httpx.UnsupportedProtocol, match="not the URL of a web server"):
            await client.get(url)

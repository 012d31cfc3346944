"""One endpoint over real HTTP: checked vectors, or a Fault that says what went wrong."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.embedder.client import EmbeddingClient, fatal
from actors.embedder.dialects import Reply, Request
from actors.embedder.faults import Fault, Kind
from actors.errors import UserError
from actors.messages import Endpoint
from tests.actors.embedder.talking import answer, request, serving
from tests.servers.fixture import EmbeddingServer
from tests.servers.vectors import vectors_of

DIM = 32
TEXTS = [f"text {i}" for i in range(5)]
pytestmark = pytest.mark.usefixtures("quick")
KEY = "SECRET-" + "x1y2z3" * 5


def endpoint(url: str, **fields: Any) -> Endpoint:
    return replace(Endpoint(url, "test-embedder", "openai", None), **fields)


@asynccontextmanager
async def client_of(url: str, **fields: Any) -> AsyncIterator[EmbeddingClient]:
    client = EmbeddingClient(endpoint(url, **fields))
    try:
        yield client
    finally:
        await client.aclose()


async def fault_of(url: str, dim: int | None = DIM, **fields: Any) -> Fault:
    async with client_of(url, **fields) as client:
        with pytest.raises(Fault) as raised:
            await client.embed(TEXTS, dim)
    return raised.value


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that says these very bytes to whatever it is asked, then hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in time")


@pytest.mark.parametrize("behaviour", [{}, {"ignore_base64": True}, {"shuffle": True}])
async def test_one_vector_for_each_text_in_order(server: EmbeddingServer, behaviour: dict[str, bool]) -> None:
    server.behave(**behaviour)
    async with client_of(server.url) as client:
        answer = await client.embed(TEXTS, DIM)
    np.testing.assert_array_equal(answer.vectors, vectors_of(TEXTS, DIM))
    assert answer.tokens == 10


async def test_the_dimension_may_be_unknown(server: EmbeddingServer) -> None:
    async with client_of(f"{server.url}/v1") as client:
        assert (await client.embed(["a"], None)).vectors.shape == (1, DIM)


async def test_many_requests_at_a_time_on_one_client(server: EmbeddingServer) -> None:
    server.behave(delay_ms=50)
    async with client_of(server.url) as client:
        answers = await asyncio.gather(*(client.embed([f"n{i}"], DIM) for i in range(150)))
    assert server.stats()["max_inflight"] == 150
    vectors = np.concatenate([answer.vectors for answer in answers])
    np.testing.assert_array_equal(vectors, vectors_of([f"n{i}" for i in range(150)], DIM))


@pytest.mark.parametrize("coding", ["chunked", "gzip", "until it hangs up"])
async def test_an_answer_may_come_in_any_form_that_http_has(coding: str) -> None:
    body = msgspec.json.encode(
        {"data": [{"index": i, "embedding": row.tobytes()} for i, row in enumerate(vectors_of(TEXTS, DIM))]}
    )
    if coding == "chunked":
        pieces = [body[i : i + 100] for i in range(0, len(body), 100)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        content = b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    elif coding == "gzip":
        packed = gzip.compress(body)
        content = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(packed), packed)
    else:
        content = b"\r\n" + body
    async with answering(b"HTTP/1.1 200 OK\r\n" + content) as url, client_of(url) as client:
        answer = await client.embed(TEXTS, DIM)
    np.testing.assert_array_equal(answer.vectors, vectors_of(TEXTS, DIM))


async def test_any_page_of_the_server_can_be_asked_for(server: EmbeddingServer) -> None:
    async with client_of(server.url) as client:
        assert (await client.ask(Request("GET", f"{server.url}/health"))).status == 200
        assert (await client.ask(Request("GET", f"{server.url}/nothing"))).status == 404


async def test_vectors_are_made_of_length_one_where_that_is_wanted(server: EmbeddingServer) -> None:
    async with client_of(server.url, unit=True) as client:
        vectors = (await client.embed(TEXTS, DIM)).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    right = vectors_of(TEXTS, DIM)
    np.testing.assert_allclose(vectors, right / np.linalg.norm(right, axis=1, keepdims=True), atol=1e-6)


async def test_one_request_in_many_has_the_encoding_that_tells_the_tokens(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(server.url, encoding="float", counted="base64") as client:
        asked: list[bytes] = []
        answer_to = client._answer_to

        def listening(request: Request, read_s: float) -> AbstractAsyncContextManager[Reply]:
            asked.append(request.body)
            return answer_to(request, read_s)

        monkeypatch.setattr(client, "_answer_to", listening)
        for _ in range(40):
            await client.embed(TEXTS, DIM)
    assert [i for i, body in enumerate(asked) if b"base64" in body] == [0, 32]


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        ("short", "4 vectors came for 5 texts"),
        ("dim", "31 dimensions"),
        ("nan", "NaN or infinity"),
        ("zero", "all zero"),
        ("truncated", "not an embedding list"),
        ("html", "<html>"),
        ("index", "index"),
    ],
)
async def test_a_wrong_answer_of_any_kind_is_a_fault(server: EmbeddingServer, wrong: str, detail: str) -> None:
    server.behave(wrong=wrong)
    fault = await fault_of(server.url)
    assert fault.kind is Kind.WRONG_ANSWER
    assert detail in fault.detail


@pytest.mark.parametrize("in_base64", [True, False])
async def test_vectors_of_one_answer_stay_when_the_next_has_come(in_base64: bool) -> None:
    texts = [[f"{i} {j}" for j in range(200)] for i in range(3)]
    left = [
        msgspec.json.encode(
            {
                "data": [
                    {"index": i, "embedding": row.tobytes() if in_base64 else row.tolist()}
                    for i, row in enumerate(vectors_of(each, 128))
                ]
            }
        )
        for each in texts
    ]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in left:
            await request(reader)
            writer.write(answer(body))

    async with serving(talk) as server, client_of(server.url.removesuffix("/path?query")) as client:
        answers = [await client.embed(each, 128) for each in texts]
        assert client._http._transport._bodies._idle  # its memory was used again
    for each, came in zip(texts, answers, strict=True):
        np.testing.assert_array_equal(came.vectors, vectors_of(each, 128))


async def test_one_spoilt_vector_among_many_is_found(server: EmbeddingServer) -> None:
    for wrong in ("nan", "zero", "dim"):
        server.behave(wrong=wrong, wrong_for="text 3")
        assert (await fault_of(server.url)).kind is Kind.WRONG_ANSWER


async def test_very_large_and_very_small_values_are_neither_infinity_nor_zero() -> None:
    row = np.array([1e30, -1e-30], np.float32)
    for values in (row, row[1:]):
        body = msgspec.json.encode({"data": [{"index": 0, "embedding": values.tobytes()}]})
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n" + body) as url, client_of(url) as client:
            assert (await client.embed(["a"], len(values))).vectors.tolist() == [values.tolist()]


async def test_vectors_of_another_dimension_than_expected_are_a_fault(server: EmbeddingServer) -> None:
    fault = await fault_of(server.url, dim=33)
    assert (fault.kind, fault.detail) == (Kind.WRONG_ANSWER, "vectors of 32 dimensions came, 33 were expected")


async def test_an_error_status_is_a_fault_with_the_servers_words(server: EmbeddingServer) -> None:
    server.behave(fail_next=1, fail_status=429, retry_after="7")
    fault = await fault_of(server.url)
    assert (fault.kind, fault.status, fault.retry_after_s) == (Kind.OVERLOADED, 429, 7)
    assert fault.detail == "Simulated failure with status 429"
    assert (await fault_of(server.url, model="another")).kind is Kind.NOT_FOUND
    assert (await fault_of(f"{server.url}/elsewhere")).kind is Kind.NOT_FOUND


async def test_a_connection_that_is_cut_is_a_transport_fault_and_the_next_request_works(
    server: EmbeddingServer,
) -> None:
    server.behave(drop_next=1)
    async with client_of(server.url) as client:
        with pytest.raises(Fault) as raised:
            await client.embed(TEXTS, DIM)
        assert raised.value.kind is Kind.TRANSPORT
        assert raised.value.detail
        await client.embed(TEXTS, DIM)


async def test_a_server_that_was_restarted_is_found_again(server: EmbeddingServer) -> None:
    async with client_of(server.url) as client:
        await client.embed(TEXTS, DIM)
        server.kill()
        with pytest.raises(Fault) as raised:
            await client.embed(TEXTS, DIM)
        assert raised.value.kind is Kind.TRANSPORT
        server.restart()
        np.testing.assert_array_equal((await client.embed(TEXTS, DIM)).vectors, vectors_of(TEXTS, DIM))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2_000_000 + b"\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_http_answer_are_a_transport_fault(answer: bytes) -> None:
    async with answering(answer) as url:
        assert (await fault_of(url)).kind is Kind.TRANSPORT


async def test_a_body_that_cannot_be_unpacked_is_a_transport_fault() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nplain") as url:
        assert (await fault_of(url)).kind is Kind.TRANSPORT


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"{}"])
async def test_a_body_that_holds_no_vectors_is_a_wrong_answer(body: bytes) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)) as url:
        assert (await fault_of(url)).kind is Kind.WRONG_ANSWER


async def test_a_redirect_is_not_followed() -> None:
    async with answering(
        b"HTTP/1.1 308 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    ) as url:
        fault = await fault_of(url)
    assert (fault.kind, fault.status, fault.detail) == (Kind.NOT_FOUND, 308, "it leads to http://127.0.0.1:1/")


async def test_a_name_that_nobody_has_is_a_server_that_is_not_there_yet() -> None:
    assert (await fault_of("http://nobody.invalid:80")).kind is Kind.STARTING


async def test_a_port_where_nobody_listens_is_a_server_that_is_not_there_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fault = await fault_of(f"http://127.0.0.1:{port}")
    assert (fault.kind, fault.detail) == (Kind.STARTING, "connection refused")


async def test_a_connection_that_does_not_come_about_is_a_server_that_is_not_there_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.embedder.client._CONNECT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never says hello
        fault = await fault_of(f"https://127.0.0.1:{silent.getsockname()[1]}")
    assert (fault.kind, fault.detail) == (Kind.STARTING, "no connection within 0 s")


async def test_no_word_of_an_answer_for_too_long_is_a_timeout(server: EmbeddingServer) -> None:
    server.behave(delay_ms=1000)
    async with client_of(server.url) as client:
        with pytest.raises(Fault) as raised:
            await client.embed(TEXTS, DIM, 0.05)
        assert (raised.value.kind, raised.value.detail) == (Kind.TIMEOUT, "no answer within 0 s")
        server.behave(delay_ms=0)
        await client.embed(TEXTS, DIM)


async def test_no_proxy_is_asked(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with client_of(server.url) as client:
        await client.embed(TEXTS, DIM)


async def test_a_header_as_long_as_servers_send() -> None:
    body = msgspec.json.encode({"data": [{"index": 0, "embedding": vectors_of(["a"], DIM)[0].tobytes()}]})
    head = b"HTTP/1.1 200 OK\r\nmetadata: " + b"x" * 44_358 + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with answering(head + body) as url, client_of(url) as client:
        np.testing.assert_array_equal((await client.embed(["a"], DIM)).vectors, vectors_of(["a"], DIM))


async def test_a_cancelled_request_leaves_the_client_usable(server: EmbeddingServer) -> None:
    server.behave(delay_ms=1000)
    async with client_of(server.url) as client:
        asking = asyncio.create_task(client.embed(TEXTS, DIM))
        await until(lambda: server.stats()["max_inflight"] == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        server.behave(delay_ms=0)
        assert (await client.embed(TEXTS, DIM)).vectors.shape == (5, DIM)


async def test_the_key_is_read_from_the_environment_and_never_told(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_EMBEDDING_KEY", f" {KEY}\n")
    server.behave(api_key=KEY)
    async with client_of(server.url, api_key_env="TEST_EMBEDDING_KEY") as client:
        assert (await client.embed(TEXTS, DIM)).vectors.shape == (5, DIM)
        reply = await client.ask(Request("GET", f"{server.url}/v1/models"))
        assert (reply.status, b"test-embedder" in reply.body) == (200, True)

    server.behave(api_key="another")
    fault = await fault_of(server.url, api_key_env="TEST_EMBEDDING_KEY")
    assert (fault.kind, fault.status) == (Kind.AUTH, 401)
    error = fatal(endpoint(server.url, api_key_env="TEST_EMBEDDING_KEY"), fault)
    assert error.exit_code == 1
    assert "$TEST_EMBEDDING_KEY" in error.message
    assert KEY not in f"{fault.detail} {error.message}"


async def test_a_server_that_wants_a_key_and_gets_none(server: EmbeddingServer) -> None:
    server.behave(api_key=KEY)
    error = fatal(endpoint(server.url), await fault_of(server.url))
    assert "without a key" in error.message
    assert "--api-key-env" in error.message


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_variable_that_holds_no_key(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("TEST_EMBEDDING_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_EMBEDDING_KEY", value)
    with pytest.raises(UserError, match="TEST_EMBEDDING_KEY is not set") as raised:
        EmbeddingClient(endpoint("http://127.0.0.1:1", api_key_env="TEST_EMBEDDING_KEY"))
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("value", ["sk-abc\u2026xyz", "sk-abc\nxyz", "sk-abc\x7fxyz"])
def test_a_key_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TEST_EMBEDDING_KEY", value)
    with pytest.raises(UserError, match="TEST_EMBEDDING_KEY") as raised:
        EmbeddingClient(endpoint("http://127.0.0.1:1", api_key_env="TEST_EMBEDDING_KEY"))
    assert "xyz" not in raised.value.message


def test_a_key_given_in_place_of_its_variable_is_not_repeated() -> None:
    with pytest.raises(UserError, match="--api-key-env") as raised:
        EmbeddingClient(endpoint("http://127.0.0.1:1", api_key_env=KEY))
    assert KEY not in raised.value.message


def test_what_ends_a_job_is_told_in_one_line_with_the_url_and_a_remedy() -> None:
    there = endpoint("http://host:80", model="m")
    for kind in Kind:
        message = fatal(there, Fault(kind, "some detail", 500)).message
        assert "http://host:80" in message
        assert "\n" not in message
    missing = fatal(there, Fault(Kind.NOT_FOUND, "no model", 404)).message
    assert "'m'" in missing
    assert "--model" in missing
    assert "status" not in fatal(there, Fault(Kind.STARTING, "connection refused")).message

"""The test server does what its behaviour says, seen over HTTP."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.servers.fixture import EmbeddingServer, lend, server
from tests.servers.vectors import vector_of, vectors_of

__all__ = ["server"]

HTTP = httpx.Client(trust_env=False)
MODEL = "test-embedder"
TEXTS = ["alpha", "beta", "gamma", "delta"]


def ask(server: EmbeddingServer, texts: str | list[str], key: str = "", **fields: Any) -> httpx.Response:
    return HTTP.post(
        f"{server.url}/v1/embeddings",
        json={"input": texts, "model": MODEL} | fields,
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )


def get(server: EmbeddingServer, path: str) -> httpx.Response:
    return HTTP.get(server.url + path)


def vector(embedding: str | list[float]) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.array(embedding, np.float32)


def vectors(response: httpx.Response) -> list[NDArray[np.float32]]:
    assert response.status_code == 200, response.text
    return [vector(item["embedding"]) for item in response.json()["data"]]


def indices(response: httpx.Response) -> list[int]:
    return [item["index"] for item in response.json()["data"]]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(1, 70))
def test_a_vector_depends_on_its_text_alone(texts: list[str], dim: int) -> None:
    together = vectors_of(texts, dim)
    assert together.shape == (len(texts), dim)
    assert together.dtype == np.float32
    for row, text in zip(together, texts, strict=True):
        assert np.array_equal(row, vector_of(text, dim))


@pytest.mark.parametrize("dim", [4, 32, 768])
def test_vectors_are_normalised_and_differ(dim: int) -> None:
    rows = vectors_of([f"text {i}" for i in range(20_000 if dim < 100 else 1_000)], dim)
    assert np.allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_vectors_do_not_lean_anywhere() -> None:
    rows = vectors_of([f"text {i}" for i in range(2_000)], 32)
    assert np.abs(rows.mean(axis=0)).max() < 0.03
    assert np.abs(rows[:1000] @ rows[1000:].T).max() < 0.9


def test_vectors_stay_the_same_from_version_to_version() -> None:
    expected = [-0.1797490, -0.8882262, -0.3099599, -0.2875229]
    assert vector_of("hello", 4).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeds_a_list(server: EmbeddingServer, encoding: str) -> None:
    response = ask(server, TEXTS, encoding_format=encoding)
    assert np.array_equal(vectors(response), vectors_of(TEXTS, 32))
    assert indices(response) == [0, 1, 2, 3]
    reply = response.json()
    assert (reply["object"], reply["model"]) == ("list", MODEL)
    assert {item["object"] for item in reply["data"]} == {"embedding"}
    assert {type(item["embedding"]) for item in reply["data"]} == {str if encoding == "base64" else list}


def test_embeds_a_string_and_floats_are_the_default(server: EmbeddingServer) -> None:
    response = ask(server, "one string")
    assert isinstance(response.json()["data"][0]["embedding"], list)
    assert np.array_equal(vectors(response), [vector_of("one string", 32)])


def test_counts_tokens_by_bytes(server: EmbeddingServer) -> None:
    texts = ["a", "abcd", "abcde", "grüße", "日本語"]
    assert ask(server, texts).json()["usage"] == {"prompt_tokens": 1 + 1 + 2 + 2 + 3, "total_tokens": 9}


def test_models_and_health(server: EmbeddingServer) -> None:
    listing = get(server, "/v1/models").json()
    assert [(m["id"], m["object"]) for m in listing["data"]] == [(MODEL, "model")]
    assert get(server, "/health").status_code == 200


def test_dim_and_model_can_change(server: EmbeddingServer) -> None:
    server.behave(dim=100, model="other")
    assert np.array_equal(vectors(ask(server, TEXTS, model="other")), vectors_of(TEXTS, 100))
    response = ask(server, TEXTS)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_ignores_base64_when_told(server: EmbeddingServer) -> None:
    server.behave(ignore_base64=True)
    response = ask(server, TEXTS, encoding_format="base64")
    assert isinstance(response.json()["data"][0]["embedding"], list)
    assert np.array_equal(vectors(response), vectors_of(TEXTS, 32))


def test_shuffles_when_told(server: EmbeddingServer) -> None:
    server.behave(shuffle=True)
    response = ask(server, TEXTS, encoding_format="base64")
    order = indices(response)
    assert order != sorted(order) == [0, 1, 2, 3]
    assert [order[i] for i in order] != sorted(order)
    assert np.array_equal(vectors(response), vectors_of([TEXTS[i] for i in order], 32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": []}, "'$.input' is invalid"),
        ({"input": ""}, "'$.input' is invalid"),
        ({"input": ["a", ""]}, "'$.input' is invalid"),
        ({"input": ["a"] * 2049}, "'$.input' is invalid"),
        ({"input": [1, 2]}, "$.input"),
        ({"input": "a", "encoding_format": "bytes"}, "$.encoding_format"),
        ({"input": "a", "truncate": True}, "truncate"),
    ],
)
def test_refuses_a_bad_request(server: EmbeddingServer, fields: dict[str, Any], message: str) -> None:
    response = ask(server, **{"texts": "a"} | {"input": "a"} | fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b'{"input": "a"}', b'{"input": "\xff", "model": "m"}'])
def test_refuses_an_unreadable_body(server: EmbeddingServer, body: bytes) -> None:
    response = HTTP.post(f"{server.url}/v1/embeddings", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_takes_as_many_texts_as_openai(server: EmbeddingServer) -> None:
    texts = [f"text {i}" for i in range(2048)]
    response = ask(server, texts, encoding_format="base64")
    assert np.array_equal(vectors(response), vectors_of(texts, 32))


def test_key(server: EmbeddingServer) -> None:
    server.behave(api_key="sesame")
    error = {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    error["message"] = "Incorrect API key provided"
    for refused in (ask(server, TEXTS), ask(server, TEXTS, key="wrong"), get(server, "/v1/models")):
        assert refused.status_code == 401
        assert refused.json()["error"] == error
    assert ask(server, TEXTS, key="sesame").status_code == 200
    assert get(server, "/health").status_code == 200


def test_max_inputs(server: EmbeddingServer) -> None:
    server.behave(max_inputs=3)
    response = ask(server, TEXTS)
    assert response.status_code == 422
    message = "batch size 4 > maximum allowed batch size 3"
    assert response.json() == {"message": message, "code": 422, "type": "Validation"}
    assert ask(server, TEXTS[:3]).status_code == 200


def test_poison(server: EmbeddingServer) -> None:
    server.behave(poison="amm")
    assert ask(server, TEXTS).status_code == 400
    assert ask(server, ["alpha", "beta"]).status_code == 200
    assert server.seen() == {"alpha": 1, "beta": 1}


def test_fail_next(server: EmbeddingServer) -> None:
    server.behave(fail_status=429, fail_next=2, retry_after=7)
    for _ in range(2):
        response = ask(server, TEXTS)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "7"
        assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert ask(server, TEXTS).status_code == 200
    server.behave(fail_status=500, fail_next=1, retry_after="")
    response = ask(server, TEXTS)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "retry-after" not in response.headers
    assert server.stats()["statuses"] == {"429": 2, "200": 1, "500": 1}


def test_drop_next(server: EmbeddingServer) -> None:
    server.behave(drop_next=2)
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="disconnected without sending"):
            ask(server, "x" * 100_000)
    assert get(server, "/health").status_code == 200
    assert ask(server, TEXTS).status_code == 200
    assert server.stats()["requests"] == 3
    assert server.stats()["statuses"] == {"200": 1}
    assert server.seen() == dict.fromkeys(TEXTS, 1)


def check_short(response: httpx.Response) -> None:
    assert indices(response) == [0, 1, 2]


def check_index(response: httpx.Response) -> None:
    assert indices(response) == [1, 2, 3, 4]


def check_html(response: httpx.Response) -> None:
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.startswith("<html>")


def check_truncated(response: httpx.Response) -> None:
    assert response.text.startswith('{"object":"list"')
    with pytest.raises(ValueError):
        response.json()


@pytest.mark.parametrize("check", [check_short, check_index, check_html, check_truncated])
def test_a_wrong_body(server: EmbeddingServer, check: Callable[[httpx.Response], None]) -> None:
    wrong = check.__name__.removeprefix("check_")
    server.behave(wrong=wrong, wrong_for="next:2")
    for _ in range(2):
        response = ask(server, TEXTS)
        assert response.status_code == 200
        check(response)
    assert server.seen() == {}
    assert np.array_equal(vectors(ask(server, TEXTS)), vectors_of(TEXTS, 32))

    server.behave(wrong=wrong, wrong_for="amm")
    check(ask(server, TEXTS))
    assert len(vectors(ask(server, ["alpha", "beta"]))) == 2
    assert server.seen() == {"alpha": 2, "beta": 2, "gamma": 1, "delta": 1}


def test_a_wrong_body_with_one_text(server: EmbeddingServer) -> None:
    server.behave(wrong="short")
    assert ask(server, "alpha").json()["data"] == []
    server.behave(wrong="index")
    assert indices(ask(server, "alpha")) == [1]


SPOILT: dict[str, Callable[[NDArray[np.float32]], bool]] = {
    "dim": lambda row: row.shape == (31,),
    "nan": lambda row: row.shape == (32,) and bool(np.isnan(row).any()),
    "zero": lambda row: row.shape == (32,) and not row.any(),
}


@pytest.mark.parametrize("wrong", SPOILT)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_wrong_vectors(server: EmbeddingServer, wrong: str, encoding: str) -> None:
    server.behave(wrong=wrong, wrong_for="next:1")
    assert all(SPOILT[wrong](row) for row in vectors(ask(server, TEXTS, encoding_format=encoding)))
    assert server.seen() == {}
    assert np.array_equal(vectors(ask(server, TEXTS, encoding_format=encoding)), vectors_of(TEXTS, 32))

    server.behave(wrong_for="amm")
    rows = vectors(ask(server, TEXTS, encoding_format=encoding))
    assert [SPOILT[wrong](row) for row in rows] == [False, False, True, False]
    assert np.array_equal(rows[3], vector_of("delta", 32))
    assert server.seen() == {"alpha": 2, "beta": 2, "gamma": 1, "delta": 2}

    server.behave(wrong_for="")
    assert all(SPOILT[wrong](row) for row in vectors(ask(server, TEXTS, encoding_format=encoding)))


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def test_delayed_requests_wait_side_by_side(server: EmbeddingServer) -> None:
    server.behave(delay_ms=300)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: ask(server, str(i)), range(8)))
    assert [len(vectors(answer)) for answer in answers] == [1] * 8
    assert server.stats()["max_inflight"] == 8


def test_the_gpu_serves_one_request_after_the_other(server: EmbeddingServer) -> None:
    server.behave(texts_per_s=200)
    finished: list[str] = []

    def work(texts: list[str]) -> None:
        vectors(ask(server, texts))
        finished.append(texts[0])

    with ThreadPoolExecutor(3) as pool:
        for number, texts in enumerate((["first"] * 60, ["second"] * 60, ["third"] * 60), start=1):
            pool.submit(work, texts)
            wait_for(lambda number=number: server.stats()["texts"] == 60 * number)  # type: ignore[misc]
    assert finished == ["first", "second", "third"]
    assert server.stats()["max_inflight"] == 3


def test_an_answer_nobody_waited_for_is_not_seen(server: EmbeddingServer) -> None:
    server.behave(delay_ms=300)
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(f"{server.url}/v1/embeddings", json={"input": "x", "model": MODEL}, timeout=0.1)
    wait_for(lambda: bool(server.stats()["statuses"]))
    assert server.stats()["statuses"] == {"499": 1}
    assert server.seen() == {}


def test_a_reset_forgets_requests_under_way(server: EmbeddingServer) -> None:
    server.behave(delay_ms=200)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask, server, TEXTS)
        wait_for(lambda: server.stats()["requests"] == 1)
        server.reset()
        assert late.result().status_code == 200
    assert server.seen() == {}
    assert not any(server.stats().values())


def test_stats(server: EmbeddingServer) -> None:
    server.behave(poison="bad")
    ask(server, ["a", "b", "c"])
    ask(server, ["a", "b"])
    ask(server, ["a", "bad", "d", "e", "f"])
    ask(server, [])
    assert server.stats() == {
        "requests": 4,
        "texts": 10,
        "distinct_texts": 7,
        "biggest_request": 5,
        "max_inflight": 1,
        "held": 0,
        "max_times_seen": 2,
        "statuses": {"200": 2, "400": 2},
    }
    assert server.seen() == {"a": 2, "b": 2, "c": 1}
    server.reset()
    assert server.seen() == {}
    assert server.stats() == dict.fromkeys(server.stats(), 0) | {"statuses": {}}
    assert ask(server, "bad").status_code == 400, "a reset leaves the behaviour"


@pytest.mark.parametrize("fields", [{"delay": 5}, {"dim": "x"}, {"dim": 0}, {"wrong": "odd"}])
def test_a_wrong_behaviour_is_refused(server: EmbeddingServer, fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        server.behave(**fields)
    assert HTTP.post(f"{server.url}/_behaviour", json=fields).status_code == 400
    assert len(vectors(ask(server, TEXTS))) == 4


def test_starts_with_its_flags_and_keeps_them_and_its_port_over_restarts() -> None:
    with EmbeddingServer(dim=8, shuffle=True, api_key="sesame", max_inputs=3, wrong_for="-x") as own:
        url, pid = own.url, own.pid
        assert ask(own, TEXTS, key="sesame").status_code == 422
        own.behave(dim=16)
        own.kill()
        with pytest.raises(httpx.ConnectError):
            ask(own, TEXTS)
        for _ in range(2):
            own.restart()
            assert own.url == url
            assert own.pid != pid
            response = ask(own, TEXTS[:3], key="sesame")
            assert indices(response) == [1, 2, 0]
            assert np.array_equal(vectors(response), vectors_of(["beta", "gamma", "alpha"], 16))
            assert own.stats()["requests"] == 1
    assert not own.running
    own.stop()
    taken = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_server(taken), pytest.raises(RuntimeError, match="did not start"):
        own.restart()


def test_the_fixture_lends_a_fresh_server(request: pytest.FixtureRequest, server: EmbeddingServer) -> None:
    server.behave(fail_next=100, dim=5)
    server.kill()
    fresh = lend(request.config)
    assert fresh is server
    assert np.array_equal(vectors(ask(fresh, TEXTS)), vectors_of(TEXTS, 32))

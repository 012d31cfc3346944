"""The application over the real default model, as a client meets it."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from jobs.serve.app import create_app
from jobs.serve.backends import Backend
from jobs.serve.backends.base import Ids, Vectors, encode
from jobs.serve.engine import Engine

NAME = "wordllama-l2-supercat-256"
TEXTS = [
    "The cat sat on the mat.",
    "A process waits for its child.",
    "x",
    "Une phrase en français, " * 40,
    "The cat sat on the mat.",
    "日本語のテキスト 🙂",
]


@pytest.fixture
async def client(wordllama: Backend) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(wordllama) as client:
        yield client


def client_of(backend: Backend, api_key: str | None = None, engine: Engine | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(backend, api_key, engine), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


async def embed(client: httpx.AsyncClient, texts: str | list[str], **options: Any) -> np.ndarray:
    reply = await client.post("/v1/embeddings", json={"input": texts, **options})
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [row["index"] for row in data] == list(range(len(data)))
    rows = [row["embedding"] for row in data]
    if options.get("encoding_format") == "base64":
        rows = [np.frombuffer(base64.b64decode(row, validate=True), "<f4") for row in rows]
    return np.array(rows, np.float32)


def assert_envelope(reply: httpx.Response, status: int, param: str | None, code: str | None = None) -> str:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)
    return str(error["message"])


async def test_base64_holds_the_very_floats_of_the_float_form(client: httpx.AsyncClient) -> None:
    floats = await embed(client, TEXTS)
    assert floats.shape == (len(TEXTS), 256)
    assert np.array_equal(floats, await embed(client, TEXTS, encoding_format="base64"))


async def test_one_by_one_gives_what_a_batch_gives_in_its_order(client: httpx.AsyncClient) -> None:
    batch = await embed(client, TEXTS)
    single = np.concatenate([await embed(client, text) for text in TEXTS])
    np.testing.assert_allclose(batch, single, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1.0, atol=1e-5)
    assert not np.allclose(batch[0], batch[1], atol=0.1)


async def test_envelope_of_a_reply(client: httpx.AsyncClient) -> None:
    reply = (await client.post("/v1/embeddings", json={"input": "The cat sat on the mat."})).json()
    assert set(reply) == {"object", "data", "model", "usage"}
    assert (reply["object"], reply["model"]) == ("list", NAME)
    assert set(reply["data"][0]) == {"object", "index", "embedding"}
    assert reply["data"][0]["object"] == "embedding"


async def test_usage_counts_tokens(client: httpx.AsyncClient, wordllama: Backend) -> None:
    reply = (await client.post("/v1/embeddings", json={"input": TEXTS})).json()
    counted = int(encode(wordllama, TEXTS).tokens.sum())
    assert reply["usage"] == {"prompt_tokens": counted, "total_tokens": counted}
    assert len(TEXTS) < counted < sum(map(len, TEXTS))


@pytest.mark.parametrize("model", [NAME, "", None])
@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
async def test_both_paths_and_every_way_to_name_the_model(
    client: httpx.AsyncClient, path: str, model: str | None
) -> None:
    reply = await client.post(path, json={"input": "a", "model": model, "user": "someone"})
    assert reply.status_code == 200


async def test_unknown_model(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/embeddings", json={"input": "a", "model": "text-embedding-3"})
    message = assert_envelope(reply, 404, "model", "model_not_found")
    assert "text-embedding-3" in message
    assert NAME in message


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
async def test_model_list(client: httpx.AsyncClient, path: str) -> None:
    reply = (await client.get(path)).json()
    assert reply["object"] == "list"
    (model,) = reply["data"]
    assert (model["id"], model["object"]) == (NAME, "model")
    assert model["n_embd"] == 256
    assert model["max_model_len"] is None


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"", None, "not JSON"),
        (b'{"input": "a"', None, "not JSON"),
        (b'{"input": "\xff"}', None, "not JSON"),
        (b'{"input": 3 "a"', None, "not JSON"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "not JSON"),
        (b'["a"]', None, "object"),
        (b"{}", "input", "input"),
        (b'{"input": null}', "input", "null"),
        (b'{"input": ""}', "input", "empty"),
        (b'{"input": ["a", ""]}', "input", "item 1"),
        (b'{"input": []}', "input", "0 texts"),
        (b'{"input": [1, 2]}', "input", "token ids"),
        (b'{"input": [[1, 2], [3]]}', "input", "token ids"),
        (b'{"input": ["a", 2]}', "input", "$.input[1]"),
        (b'{"input": "a", "model": 3}', "model", "str"),
        (b'{"input": "a", "encoding_format": "int8"}', "encoding_format", "int8"),
        (b'{"input": "a", "dimensions": "64"}', "dimensions", "int"),
        (b'{"input": "a", "dimensions": 0}', "dimensions", "1 to 256"),
        (b'{"input": "a", "dimensions": 257}', "dimensions", "1 to 256"),
    ],
)
async def test_refused(client: httpx.AsyncClient, body: bytes, param: str | None, says: str) -> None:
    assert says in assert_envelope(await client.post("/v1/embeddings", content=body), 400, param)


async def test_at_most_2048_texts(client: httpx.AsyncClient) -> None:
    assert len(await embed(client, ["a"] * 2048, encoding_format="base64")) == 2048
    reply = await client.post("/v1/embeddings", json={"input": ["a"] * 2049})
    assert "2049" in assert_envelope(reply, 400, "input")


async def test_an_error_repeats_little_of_what_was_sent(client: httpx.AsyncClient) -> None:
    for key in ("model", "encoding_format"):
        reply = await client.post("/v1/embeddings", json={"input": "a", key: "m" * 100_000})
        assert len(reply.content) < 1000


async def test_whitespace_is_a_text(client: httpx.AsyncClient) -> None:
    vectors = await embed(client, [" ", "\n", "\t  \r\n", "\u200b", "\u0000"])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("dimensions", [1, 64, 100, 256])
async def test_dimensions_cut_and_renormalise(client: httpx.AsyncClient, dimensions: int) -> None:
    cut = (await embed(client, TEXTS))[:, :dimensions]
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    np.testing.assert_allclose(await embed(client, TEXTS, dimensions=dimensions), cut, atol=1e-6)


async def test_wrong_path_and_wrong_method(client: httpx.AsyncClient) -> None:
    assert "/v1/completions" in assert_envelope(await client.post("/v1/completions", json={}), 404, None)
    reply = await client.get("/v1/embeddings")
    assert_envelope(reply, 405, None)
    assert reply.headers["allow"] == "POST"


async def test_api_key(wordllama: Backend) -> None:
    async with client_of(wordllama, "sesame-42") as client:
        right = {"Authorization": "Bearer sesame-42"}
        for headers in ({}, {"Authorization": "Bearer sesame-4"}, {"Authorization": "sesame-42"}):
            for reply in (
                await client.post("/v1/embeddings", json={"input": "a"}, headers=headers),
                await client.get("/v1/models", headers=headers),
            ):
                message = assert_envelope(reply, 401, None, "invalid_api_key")
                assert "sesame" not in message
        assert (await client.post("/embeddings", json={"input": "a"}, headers=right)).status_code == 200
        assert (await client.get("/models", headers=right)).status_code == 200
        assert (await client.get("/health")).status_code == 200


@dataclass
class Waiting:
    """A model that answers when it is told to, and fails on the text `fail`."""

    started: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    name: str = "waiting"
    dim: int = 2
    max_tokens: int | None = 8
    matryoshka: bool = False
    batch_tokens: int = 4
    lanes: int = 1

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        return [np.full(1, text == "fail", np.int32) for text in texts]

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        self.started.set()
        if any(row[0] for row in rows):
            raise MemoryError("no memory left on the device")
        assert self.go.wait(30)
        return np.array([[0.6, 0.8]] * len(rows), np.float32)


async def test_the_server_answers_while_the_model_works() -> None:
    model = Waiting()
    async with client_of(model) as client:
        pending = asyncio.create_task(client.post("/v1/embeddings", json={"input": "a"}))
        assert await asyncio.to_thread(model.started.wait, 30)
        assert (await client.get("/health")).status_code == 200
        assert not pending.done()
        model.go.set()
        assert (await pending).json()["data"][0]["embedding"] == pytest.approx([0.6, 0.8])


async def test_a_model_that_fails_is_a_500_and_the_next_request_is_served() -> None:
    model = Waiting()
    model.go.set()
    async with client_of(model) as client:
        reply = await client.post("/v1/embeddings", json={"input": "fail"})
        assert "no memory left on the device" in assert_envelope(reply, 500, None)
        assert (await client.post("/v1/embeddings", json={"input": "a"})).status_code == 200


async def test_dimensions_of_a_model_that_cannot_be_shortened() -> None:
    model = Waiting()
    model.go.set()
    async with client_of(model) as client:
        assert (await embed(client, "a", dimensions=2)).shape == (1, 2)
        reply = await client.post("/v1/embeddings", json={"input": "a", "dimensions": 1})
        assert "must be 2" in assert_envelope(reply, 400, "dimensions")

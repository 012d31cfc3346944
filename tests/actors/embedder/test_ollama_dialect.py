"""Ollama's dialect on its literal pages and answers: which models it takes, which route, and vectors as numbers."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Description, Reply, Request
from actors.embedder.dialects.ollama import Ollama
from actors.messages import Limits, Wanted
from tests.actors.embedder.answers import base64_of
from tests.actors.embedder.looking import described, described_by
from tests.actors.embedder.reading import at, fields, read, wrong
from tests.servers.vectors import vectors_of

DIALECT = Ollama()
NOMIC = {
    "capabilities": ["embedding"],
    "model_info": {
        "general.architecture": "nomic-bert",
        "nomic-bert.embedding_length": 768,
        "nomic-bert.context_length": 2048,
        "tokenizer.ggml.model": "bert",
    },
}
LLAMA = {
    "capabilities": ["completion", "tools"],
    "model_info": {"general.architecture": "llama", "llama.embedding_length": 4096},
}


def server(models: dict[str, object], model: str = "", front: bool = True) -> Description | None:
    """What is found of one with these models, each with what `POST /api/show` says of it."""
    pages = {
        "/": b"Ollama is running" if front else None,
        "/api/version": {"version": "0.33.0"},
        "/api/tags": {"models": [{"name": name, "model": name, "size": 1} for name in models]},
    }

    def answer(_: int, request: Request) -> Reply | None:
        path = request.url.removeprefix("http://host")
        page = models.get(fields(request)["model"]) if path == "/api/show" else pages.get(path)
        if page is None:
            return Reply(404, httpx.Headers(), b'{"error":"model \'x\' not found"}')
        return Reply(200, httpx.Headers(), page if isinstance(page, bytes) else msgspec.json.encode(page))

    return described(DIALECT, answer, model=model)


def test_the_only_model_that_embeds_is_the_one() -> None:
    found = server({"llama3.2:latest": LLAMA, "nomic-embed-text:latest": NOMIC})
    assert found
    assert found.server == "Ollama 0.33.0"
    assert found.route == "http://host/v1/embeddings"
    assert found.encodings == ("base64", "float")
    assert found.models == ("nomic-embed-text:latest",)
    assert (found.dim, found.limits) == (768, Limits(tokens_per_text=2048))
    assert found.cuts_long_texts is True
    assert "one text at a time" in found.batching
    assert found.takes == {"dimensions"}
    own = found.suiting(Wanted(truncate=False))
    assert (own.route, own.encodings) == ("http://host/api/embed", ("float",))
    assert found.suiting(Wanted(dimensions=8)).route == found.route
    assert found.told == {
        "server": "/api/version",
        "models": "/api/tags",
        "dim": "/api/show",
        "tokens_per_text": "/api/show",
    }


def test_of_several_none_is_chosen() -> None:
    found = server({"a": NOMIC, "b": NOMIC})
    assert found
    assert (found.models, found.dim, found.limits) == (("a", "b"), None, Limits())


def test_the_one_that_is_named_is_looked_at() -> None:
    found = server({"a": NOMIC, "b": LLAMA}, model="b")
    assert found
    assert (found.dim, found.limits) == (4096, Limits())


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ({"a": {"model_info": {}}, "b": {"model_info": {}}}, ("a", "b")),  # before there were capabilities
        ({"a": {}, "b": LLAMA}, ("a",)),
        ({"a": {}, "b": NOMIC}, ("b",)),
        ({"a": LLAMA, "b": LLAMA}, ("a", "b")),
        ({"a": b"<html>"}, ("a",)),
        ({}, ()),
    ],
)
def test_models_that_do_not_say(models: dict[str, object], names: tuple[str, ...]) -> None:
    found = server(models)
    assert found
    assert found.models == names


@pytest.mark.parametrize("length", [0, -1, True, "768", 768.0, None])
def test_what_is_no_length_is_left_out(length: object) -> None:
    info = {"general.architecture": "x", "x.embedding_length": length, "x.context_length": length}
    found = server({"a": {"capabilities": ["embedding"], "model_info": info}})
    assert found
    assert (found.dim, found.limits, found.told) == (
        None,
        Limits(),
        {"server": "/api/version", "models": "/api/tags"},
    )


def test_it_is_known_without_its_front_page_and_by_nothing_less() -> None:
    assert server({"a": NOMIC}, front=False)
    assert described_by(DIALECT, {"/": b"Ollama is running"})
    assert described_by(DIALECT, {"/api/tags": {"models": [{"name": "a"}], "data": []}}) is None  # llama.cpp's
    assert described_by(DIALECT, {"/api/version": {"version": "1"}}) is None
    assert described_by(DIALECT, {"/": b"<p>Ollama is running</p>"}) is None


def test_where_it_may_cut_it_is_asked_in_base64() -> None:
    request = DIALECT.embed(at("http://host/v1", "ollama", dimensions=8), ["a"])
    assert request.url == "http://host/v1/embeddings"
    expected = {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 8}
    assert fields(request) == expected


@pytest.mark.parametrize(
    ("endpoint", "truncate"),
    [
        (at("http://host", "ollama", truncate=False), False),
        (at("http://host", "ollama", "base64", "http://host/v1/embeddings", truncate=False), False),
        (at("http://host", "ollama", "float"), True),
        (at("http://host", "ollama", "base64", "http://host/api/embed"), True),
    ],
)
def test_else_on_its_own_route(endpoint: Any, truncate: bool) -> None:
    request = DIALECT.embed(endpoint, ["a", "b"])
    assert request.url == "http://host/api/embed"
    assert fields(request) == {"model": "m", "input": ["a", "b"], "truncate": truncate}


def test_its_own_route_shortens_too() -> None:
    assert fields(DIALECT.embed(at("http://h", "ollama", "float", dimensions=8), ["a"]))["dimensions"] == 8


ROWS = vectors_of(["a", "b", "c"], 7)


def own(embeddings: object, **more: object) -> dict[str, object]:
    return {"model": "m", "embeddings": embeddings, "total_duration": 1, "load_duration": 1} | more


@pytest.mark.parametrize("spaced", [False, True])
def test_vectors_as_numbers(spaced: bool) -> None:
    body = msgspec.json.encode(own(ROWS.tolist(), prompt_eval_count=9))
    if spaced:
        body = msgspec.json.format(body, indent=2)
    answer = read(DIALECT, body, 3)
    np.testing.assert_array_equal(answer.vectors, ROWS)
    assert answer.vectors.dtype == np.float32
    assert answer.tokens == 9


def test_whole_numbers_and_no_count() -> None:
    answer = read(DIALECT, own([[1, 2.5], [-3, 0]]), 2)
    assert answer.vectors.tolist() == [[1, 2.5], [-3, 0]]
    assert answer.tokens is None


def test_the_other_route_s_answer() -> None:
    data = [
        {"object": "embedding", "index": i, "embedding": base64_of(row.tobytes())} for i, row in enumerate(ROWS)
    ]
    body = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    answer = read(DIALECT, body, 3)
    np.testing.assert_array_equal(answer.vectors, ROWS)
    assert answer.tokens == 5


@pytest.mark.parametrize(
    ("body", "texts", "says"),
    [
        (own([]), 1, "0 vectors came for 1 texts"),
        (own([[1.0], [2.0]]), 1, "2 vectors came for 1 texts"),
        (own([[1.0]]), 2, "1 vectors came for 2 texts"),
        (own([[1.0, 2.0], [1.0]]), 2, "vectors of 1 and 2 dimensions"),
        (own([[1.0], None]), 2, "not an embedding list"),
        (own([["1"]]), 1, "not an embedding list"),
        (own([[[1.0]]]), 1, "not an embedding list"),
        (own([True]), 1, "not an embedding list"),
        ({"other": own([[1.0]])}, 1, "not an embedding list"),
        ({"other": own([[1.0]]), "embeddings": [1]}, 1, "not an embedding list"),
        (msgspec.json.encode(own([[1.0], [2.0]]))[:-20], 2, "not an embedding list"),
        (b'{"embeddings":[[1.0] [2.0]]}', 2, "not an embedding list"),
        (b'{"embeddings":[[1.0],[2.0],]}', 2, "not an embedding list"),
        (b'{"embeddings":[,[1.0],[2.0]]}', 2, "not an embedding list"),
        (b'{"embeddings":[[1.0],[2.0}', 2, "not an embedding list"),
        (b'{"embeddings":[[1.0],[2.0]],"embeddings":[[3.0]]}', 2, "1 vectors"),
        (b"", 1, "not an embedding list"),
        (b"Ollama is running", 1, "not an embedding list"),
    ],
)
def test_an_answer_without_one_vector_a_text_is_wrong(body: object, texts: int, says: str) -> None:
    assert says in wrong(DIALECT, body, texts)


def test_a_large_answer_is_read_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedder.dialects.embedding_list._NUMBERS_BYTES", 200)
    rows = vectors_of([str(i) for i in range(40)], 9)
    reading = DIALECT.answer(Reply(200, {}, msgspec.json.encode(own(rows.tolist()))), 40)
    steps = 0
    try:
        while True:
            next(reading)
            steps += 1
    except StopIteration as done:
        np.testing.assert_array_equal(done.value.vectors, rows)
    assert steps > 10

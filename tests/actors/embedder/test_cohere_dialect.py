"""Cohere's v2 shape, as its client has it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from actors.embedder.dialects.cohere import Cohere
from actors.messages import Limits
from tests.actors.embedder.looking import described_by
from tests.actors.embedder.reading import at, fields, read, wrong
from tests.servers.vectors import vectors_of

DIALECT = Cohere()
HOST = "https://api.cohere.com"
MODELS = {
    "models": [
        {"name": "embed-v4.0", "endpoints": ["embed"], "context_length": 128000.0, "finetuned": False},
        {"name": "embed-english-v3.0", "endpoints": ["embed", "classify"], "context_length": 512},
        {"name": "command-r", "endpoints": ["chat"]},
    ]
}


@pytest.mark.parametrize("url", [HOST, f"{HOST}/v1", f"{HOST}/v2", "https://api.cohere.ai/v1"])
def test_it_is_known_by_its_name(url: str) -> None:
    host = url.removesuffix("/v1").removesuffix("/v2")
    found = described_by(DIALECT, {"/v1/models?endpoint=embed": MODELS}, host, "embed-english-v3.0")
    assert found
    assert (found.server, found.route, found.encodings) == ("Cohere API", f"{host}/v2/embed", ("float",))
    assert found.models == ("embed-v4.0", "embed-english-v3.0")
    assert found.limits == Limits(tokens_per_text=512, texts_per_request=96)
    assert found.takes == {"dimensions", "prompt_name", "truncate"}
    assert found.told == {"models": "/v1/models", "tokens_per_text": "/v1/models"}


def test_its_pages_may_be_missing() -> None:
    found = described_by(DIALECT, {}, HOST, "m")
    assert found
    assert (found.models, found.limits, found.told) == ((), Limits(texts_per_request=96), {})


@pytest.mark.parametrize("url", ["http://host", "https://api.cohere.com.example", "https://notapi.cohere.com"])
def test_no_other_host_is_it(url: str) -> None:
    assert described_by(DIALECT, {"/v1/models?endpoint=embed": MODELS}, url, "m") is None


def test_what_is_asked() -> None:
    request = DIALECT.embed(at(f"{HOST}/v2", "cohere"), ["a", "b"])
    assert request.url == f"{HOST}/v2/embed"
    assert fields(request) == {
        "model": "m",
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
        "truncate": "END",
    }
    request = DIALECT.embed(
        at(HOST, "cohere", "base64", "http://h/x", prompt_name="clustering", truncate=False, dimensions=256), ["a"]
    )
    assert request.url == "http://h/x"
    assert fields(request) == {
        "model": "m",
        "texts": ["a"],
        "input_type": "clustering",
        "embedding_types": ["base64"],
        "truncate": "NONE",
        "output_dimension": 256,
    }


ROWS = vectors_of(["a", "b", "c"], 7)
META = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 12}}


def body(embeddings: object, texts: list[str] | None = None, **more: object) -> dict[str, object]:
    return {"id": "1", "texts": texts or ["a"], "embeddings": embeddings, "response_type": "x"} | more


@pytest.mark.parametrize("rows", [ROWS.tolist(), ROWS[:, ::-1].tolist()])
def test_vectors_as_numbers(rows: list[list[float]]) -> None:
    answer = read(DIALECT, body({"float": rows}, meta=META), 3)
    np.testing.assert_array_equal(answer.vectors, np.array(rows, np.float32))
    assert answer.tokens == 12


def test_a_text_that_comes_back_is_not_taken_for_vectors() -> None:
    texts = ['"float":[[1,2]]', "float", ':[["', '\\"float\\":[[9]]']
    answer = read(DIALECT, body({"float": ROWS.tolist()}, texts, meta=None), 3)
    np.testing.assert_array_equal(answer.vectors, ROWS)
    assert answer.tokens is None


def test_vectors_elsewhere_are_not_taken_either() -> None:
    answer = read(DIALECT, {"meta": {"float": [[9.0], [9.0], [9.0]]}, "embeddings": {"float": ROWS.tolist()}}, 3)
    np.testing.assert_array_equal(answer.vectors, ROWS)


def test_vectors_in_base64() -> None:
    answer = read(DIALECT, body({"base64": [row.tobytes() for row in ROWS], "float": None}), 3)
    np.testing.assert_array_equal(answer.vectors, ROWS)


@pytest.mark.parametrize(
    ("given", "texts", "says"),
    [
        (body({"float": [[1.0]]}), 2, "1 vectors came for 2 texts"),
        (body({"float": []}), 1, "0 vectors came for 1 texts"),
        (body({"float": [[1.0], [1.0, 2.0]]}), 2, "vectors of 1 and 2 dimensions"),
        (body({"base64": [b"12345678", b"1234"]}), 2, "vectors of 1 and 2 dimensions"),
        (body({"base64": [b"12345"]}), 1, "not of whole float32"),
        (body({"int8": [[1]]}), 1, "no embeddings"),
        (body([[1.0]]), 1, "not one of Cohere's shape"),
        (body({"float": [["a"]]}), 1, "not one of Cohere's shape"),
        ({"message": "no"}, 1, "not one of Cohere's shape"),
        ({"meta": {"float": [[1.0]]}, "embeddings": {"float": [1]}}, 1, "not one of Cohere's shape"),
        (msgspec.json.encode(body({"float": [[1.0]]}))[:-9], 1, "not one of Cohere's shape"),
        (b"\xff", 1, "not one of Cohere's shape"),
        (b"[" * 5000, 1, "not one of Cohere's shape"),
    ],
)
def test_an_answer_without_one_vector_a_text_is_wrong(given: object, texts: int, says: str) -> None:
    assert says in wrong(DIALECT, given, texts)

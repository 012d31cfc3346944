"""The TEI dialect on the pages and bytes that TEI sends."""

from __future__ import annotations

import httpx
import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Answer, Description, Reply
from actors.embedder.dialects.tei import TEI
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Limits, Wanted
from tests.actors.embedder.answers import base64_of, finished
from tests.actors.embedder.looking import described_by
from tests.servers.vectors import vectors_of

DIALECT = TEI()
ROWS = vectors_of(["a", "b", "c"], 8)
INFO: dict[str, object] = {
    "model_id": "BAAI/bge-m3",
    "model_sha": "5617a9f",
    "model_dtype": "float16",
    "served_model_name": "bge",
    "model_type": {"embedding": {"pooling": "cls"}},
    "max_concurrent_requests": 512,
    "max_input_length": 8192,
    "max_batch_tokens": 16384,
    "max_batch_requests": None,
    "max_client_batch_size": 32,
    "auto_truncate": True,
    "tokenization_workers": 8,
    "version": "1.9.3",
    "sha": None,
    "docker_label": None,
}


def known(info: dict[str, object], url: str = "http://host") -> Description:
    found = described_by(DIALECT, {"/info": info}, url.removesuffix("/v1"))
    assert found is not None
    return found


def asked(route: str, encoding: str = "base64", **wanted: object) -> tuple[str, dict[str, object]]:
    endpoint = Endpoint(
        "http://host",
        "m",
        "tei",
        None,
        route=route,
        encoding=encoding,
        wanted=Wanted(**wanted),  # type: ignore[arg-type]
    )
    request = DIALECT.embed(endpoint, ["a", "b"])
    assert request.method == "POST"
    return request.url.removeprefix("http://host"), msgspec.json.decode(request.body)


def answered(body: bytes, texts: int, **headers: str) -> Answer:
    given = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return finished(DIALECT.answer(Reply(200, given, body), texts))


# --- what it is -------------------------------------------------------------------------------------------------


def test_its_own_page_tells_what_it_takes() -> None:
    found = known(INFO)
    assert found.server == "TEI 1.9.3"
    assert found.models == ("bge",)
    assert found.cuts_long_texts is True
    assert found.route == "http://host/v1/embeddings"
    assert found.encodings[0] == "base64"
    assert found.limits == Limits(
        tokens_per_text=8192,
        texts_per_request=32,
        bytes_per_request=2_000_000,
        texts_in_flight=512,
        tokens_per_gpu_batch=16384,
    )
    assert found.told["texts_per_request"] == "/info"
    assert "bytes_per_request" not in found.told
    assert "16384 tokens" in found.batching


def test_one_from_before_models_had_names_to_be_served_under() -> None:
    old = {key: value for key, value in INFO.items() if key != "served_model_name"} | {"auto_truncate": False}
    assert (known(old).models, known(old).cuts_long_texts) == (("BAAI/bge-m3",), False)


def test_what_the_page_does_not_tell_is_not_known() -> None:
    silent = known({key: value for key, value in INFO.items() if key != "auto_truncate"})
    assert silent.cuts_long_texts is None
    assert "cuts_long_texts" not in silent.told
    assert known(INFO).told["cuts_long_texts"] == "/info"
    assert silent.suiting(Wanted()).route == "http://host/embed"  # where it can be told


def test_the_page_is_beside_v1() -> None:
    assert next(DIALECT.describe("http://host/tei/v1", "")).url == "http://host/tei/info"


@pytest.mark.parametrize("missing", ["model_id", "max_client_batch_size", "max_input_length", "max_batch_tokens"])
def test_a_page_of_that_name_is_not_enough(missing: str) -> None:
    page = {key: value for key, value in INFO.items() if key != missing}
    assert described_by(DIALECT, {"/info": page}) is None


@pytest.mark.parametrize("page", [b"", b"[]", b"<html>", b"null", INFO | {"max_input_length": 0}])
def test_nor_is_one_that_makes_no_sense(page: object) -> None:
    assert described_by(DIALECT, {"/info": page}) is None


# --- what is asked ----------------------------------------------------------------------------------------------


def test_base64_of_the_openai_route_where_no_more_is_wanted() -> None:
    path, body = asked("http://host/v1/embeddings", dimensions=64)
    assert path == "/v1/embeddings"
    assert body == {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 64}


@pytest.mark.parametrize("truncate", [True, False])
def test_its_own_route_is_told_everything(truncate: bool) -> None:
    path, body = asked("http://host/embed", dimensions=64, prompt_name="query", raw=True, truncate=truncate)
    assert path == "/embed"
    assert body == {
        "inputs": ["a", "b"],
        "truncate": truncate,
        "normalize": False,
        "prompt_name": "query",
        "dimensions": 64,
    }


def test_only_what_is_wanted_is_said() -> None:
    assert asked("http://host/embed") == ("/embed", {"inputs": ["a", "b"], "truncate": True, "normalize": True})


def test_where_nothing_is_known_the_route_is_the_one_that_can_be_told_everything() -> None:
    assert asked("") == ("/embed", {"inputs": ["a", "b"], "truncate": True, "normalize": True})


@pytest.mark.parametrize("wanted", [{"prompt_name": "query"}, {"raw": True}])
def test_what_the_openai_route_would_ignore_is_not_said_in_its_words(wanted: dict[str, object]) -> None:
    path, body = asked("http://host/v1/embeddings", **wanted)
    assert path == "/v1/embeddings"
    assert "input" not in body


# --- what comes back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "tokens"), [("12", 12), ("0", None), ("-3", None), ("x", None), ("²", None)])
def test_a_bare_list_of_vectors_and_the_header_with_its_tokens(header: str, tokens: int | None) -> None:
    headers = {b"x-compute-tokens": header.encode()}
    got = finished(DIALECT.answer(Reply(200, httpx.Headers(headers), msgspec.json.encode(ROWS.tolist())), 3))
    np.testing.assert_array_equal(got.vectors, ROWS)
    assert got.vectors.dtype == np.float32
    assert got.tokens == tokens


def test_without_the_headers_tokens_and_times_are_not_known() -> None:
    got = answered(b" [[1.0, 2.5e-1],\n[3, 4]] ", 2)
    assert (got.tokens, got.queued_s, got.worked_s) == (None, None, None)


@pytest.mark.parametrize("own", [True, False])
def test_how_long_texts_waited_is_told_on_both_routes(own: bool) -> None:
    data = [{"index": i, "embedding": base64_of(row)} for i, row in enumerate(ROWS)]
    body = msgspec.json.encode(ROWS.tolist() if own else {"data": data, "usage": {"prompt_tokens": 9}})

    def told(queue: str, inference: str) -> tuple[float | None, float | None]:
        headers = httpx.Headers({"X-Queue-Time": queue, "X-Inference-Time": inference})
        got = finished(DIALECT.answer(Reply(200, headers, body), 3))
        np.testing.assert_array_equal(got.vectors, ROWS)
        return got.queued_s, got.worked_s

    assert told("250", "31") == (0.25, 0.031)
    assert told("0", "31") == (0.0, 0.031)
    assert told("soon", "31") == (None, None)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b"[]", 1),
        (b"[[]]", 1),
        (b"[[1.0]]", 2),
        (b"[[1.0],[2.0]]", 1),
        (b"[[1.0],[2.0,3.0]]", 2),
        (b"[[1.0],[null]]", 2),
        (b'[[1.0],["2.0"]]', 2),
        (b"[[1.0],[[2.0]]]", 2),
        (b"[[1.0][2.0]]", 2),
        (b"[,[1.0][2.0]]", 2),
        (b"[[1.0],[2.0]", 2),
        (b"[[1.0],[2.0]]]", 2),
        (b"[[1.0],[2.0],]", 2),
        (b"[[1.0],[2.0],3]", 2),
        (b"[1.0,2.0]", 2),
        (b"[[1e999]]", 1),
        (b"[[NaN]]", 1),
        (b"[", 1),
        (b"", 1),
        (b"<html>", 1),
        (b'{"error":"no"}', 1),
        (b'{"object":"list","data":[]}', 1),
    ],
)
def test_an_answer_without_one_vector_a_text_is_wrong(body: bytes, texts: int) -> None:
    with pytest.raises(Fault) as raised:
        answered(body, texts)
    assert raised.value.kind is Kind.WRONG_ANSWER
    assert raised.value.detail


def test_an_embedding_list_is_read_as_one() -> None:
    data = [
        {"object": "embedding", "embedding": base64_of(row.tobytes()), "index": i} for i, row in enumerate(ROWS)
    ]
    usage = {"prompt_tokens": 12, "total_tokens": 12}
    got = answered(msgspec.json.encode({"object": "list", "data": data, "model": "m", "usage": usage}), 3)
    np.testing.assert_array_equal(got.vectors, ROWS)
    assert got.tokens == 12

"""The OpenAI dialect on the bytes that real servers send: vectors in the texts' order, or the right Fault."""

from __future__ import annotations

import base64
import mmap
from collections.abc import Generator, Sequence
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.embedder.dialects import Answer, Body, Reply, errors
from actors.embedder.dialects.openai import OpenAI, model_names
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Limits, Wanted
from tests.actors.embedder.looking import described_by
from tests.servers.vectors import vectors_of

DIALECT = OpenAI()


def finished(decoding: Generator[None, None, Answer]) -> Answer:
    while True:
        try:
            next(decoding)
        except StopIteration as done:
            return done.value


def base64_of(row: Sequence[float]) -> str:
    return base64.b64encode(np.array(row, "<f4").tobytes()).decode()


def reply(embeddings: Sequence[object], indices: Sequence[int] | None = None, **more: Any) -> bytes:
    """An answer's body as OpenAI shapes it."""
    data = [
        {"object": "embedding", "index": index, "embedding": embedding}
        for index, embedding in zip(indices or range(len(embeddings)), embeddings, strict=True)
    ]
    return msgspec.json.encode({"object": "list", "data": data, "model": "m"} | more)


def answer(body: Body, texts: int) -> Answer:
    return finished(DIALECT.answer(Reply(200, {}, body), texts))


def wrong(body: Body, texts: int) -> Fault:
    with pytest.raises(Fault) as raised:
        finished(DIALECT.answer(Reply(200, {}, body), texts))
    assert raised.value.kind is Kind.WRONG_ANSWER
    return raised.value


def fault(status: int, body: object = b"", **headers: str) -> Fault:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return errors.fault(Reply(status, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), content))


def at(url: str, **wanted: Any) -> Endpoint:
    return Endpoint(url, "m", "openai", None, wanted=Wanted(**wanted))


@pytest.mark.parametrize("kind", [bytes, bytearray, mmap.mmap])
def test_an_answer_in_memory_of_any_kind(kind: type[Body]) -> None:
    def there(body: bytes) -> Body:
        if kind is not mmap.mmap:
            return kind(body)
        memory = mmap.mmap(-1, len(body))
        memory[:] = body
        return memory

    for embeddings in ([base64_of([1, 2]), base64_of([3, 4])], [[1, 2], [3, 4]], [base64_of([1, 2]), [3, 4]]):
        assert answer(there(reply(embeddings)), 2).vectors.tolist() == [[1, 2], [3, 4]]
    assert "no list here" in wrong(there(b"no list here"), 2).detail
    assert model_names(Reply(200, {}, there(b'{"data":[{"id":"m"}]}'))) == ("m",)
    assert errors.fault(Reply(500, {}, there(b'{"error":"out of order"}'))).detail == "out of order"


@pytest.mark.parametrize("url", ["http://host:8080", "http://host:8080/v1"])
def test_the_url_may_end_in_v1(url: str) -> None:
    assert DIALECT.embed(at(url), ["a"]).url == "http://host:8080/v1/embeddings"
    looked = next(DIALECT.describe(url, ""))
    assert (looked.method, looked.url) == ("GET", "http://host:8080/v1/models")


def test_a_url_may_have_a_path_before_v1() -> None:
    assert DIALECT.embed(at("https://host/openai/v1"), ["a"]).url == "https://host/openai/v1/embeddings"


def test_a_request_has_the_three_fields_that_the_real_api_allows() -> None:
    texts = ["a", 'say "hi"\n\x00', "Straße 東京 🙂"]
    request = DIALECT.embed(at("http://host"), texts)
    assert request.method == "POST"
    assert msgspec.json.decode(request.body) == {"model": "m", "input": texts, "encoding_format": "base64"}


def test_a_dimension_is_sent_only_when_one_is_wanted() -> None:
    asked = msgspec.json.decode(DIALECT.embed(at("http://host", dimensions=64), ["a"]).body)
    assert asked["dimensions"] == 64


@settings(deadline=None)
@given(st.permutations(range(7)), st.booleans(), st.integers(1, 40))
def test_vectors_come_in_the_order_of_their_index(order: list[int], as_base64: bool, dim: int) -> None:
    vectors = vectors_of([str(i) for i in range(7)], dim)
    rows = [base64_of(vectors[i]) if as_base64 else vectors[i].tolist() for i in order]
    got = answer(reply(rows, order, usage={"prompt_tokens": 70, "total_tokens": 70}), 7)
    np.testing.assert_array_equal(got.vectors, vectors)
    assert got.vectors.dtype == np.float32
    assert got.tokens == 70


def test_floats_and_base64_may_be_mixed_and_fields_unknown_to_us_are_ignored() -> None:
    body = reply([[1, 2.5], base64_of([3, 4])], usage=None, id="embd-1", created=1)
    np.testing.assert_array_equal(answer(body, 2).vectors, [[1, 2.5], [3, 4]])


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": 0}, {"prompt_tokens": None}, {"prompt_tokens": "7"}, [7]]
)
@pytest.mark.parametrize("rows", [[[1.0]], [base64_of([1.0])], [[1.0], base64_of([2.0])]])
def test_a_count_of_tokens_that_is_none_costs_no_vector(usage: object, rows: list[Any]) -> None:
    assert answer(reply(rows), len(rows)).tokens is None
    got = answer(reply(rows, usage=usage), len(rows))
    assert (got.tokens, got.vectors.shape) == (None, (len(rows), 1))


def test_tokens_may_be_counted_in_floats_and_only_in_total() -> None:
    assert answer(reply([[1.0]], usage={"prompt_tokens": 7.0}), 1).tokens == 7
    assert answer(reply([[1.0]], usage={"total_tokens": 9}), 1).tokens == 9


def test_vectors_can_be_written_to_and_do_not_hang_on_the_body() -> None:
    got = answer(reply([base64_of([1, 2])]), 1)
    got.vectors[0, 0] = 5
    root: object = got.vectors
    while isinstance(root, np.ndarray) and root.base is not None:
        root = root.base
    assert memoryview(root).nbytes == got.vectors.nbytes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b"", 1),
        (b"null", 1),
        (b"[]", 1),
        (b"\xff\xfe", 1),
        (b"<html><body>Bad gateway</body></html>", 1),
        (b"<html>\r\n<body>Bad gateway</body>\n</html>\n", 1),
        (reply([[1.0], [2.0]])[:-9], 2),
        (b'{"data": {}}', 1),
        (b'{"error": {"message": "loading"}}', 1),
        (b'{"data": [{"embedding": [1.0]}]}', 1),
        (reply([[1.0]], [1]), 1),
        (reply([[1.0]], [-1]), 1),
        (reply([[1.0], [2.0]], [0, 0]), 2),
        (reply([[1.0], [2.0]], [0, 2]), 2),
        (b'{"data": [{"index": 99999999999999999999, "embedding": [1.0]}]}', 1),
        (reply([[1.0], [2.0]]), 1),
        (reply([[1.0]]), 2),
        (reply([]), 1),
        (reply([[1.0, 2.0], [1.0]]), 2),
        (reply([[1.0, 2.0], base64_of([1])]), 2),
        (reply(["not base64!"]), 1),
        (reply([[None]]), 1),
        (reply([[[1.0]]]), 1),
        (reply([None]), 1),
        (b'{"data": [{"index": 0, "embedding": [NaN]}]}', 1),
        (b'{"data": [{"index": 0, "embedding": [1e999]}]}', 1),
        (reply([base64.b64encode(b"float16").decode()]), 1),  # no multiple of four bytes
        (b'{"deep": ' + b"[" * 4000, 1),
    ],
)
def test_an_answer_without_one_vector_a_text_is_wrong(body: bytes, texts: int) -> None:
    found = wrong(body, texts)
    assert found.detail
    assert "\n" not in found.detail


def test_what_came_instead_of_vectors_is_shown_in_short() -> None:
    assert "<html>" in wrong(b"<html>" + b"x" * 5000, 1).detail
    assert len(wrong(b"<html>" + b"x" * 5000, 1).detail) < 300


def test_the_models_are_those_of_the_list() -> None:
    page = {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]}
    found = described_by(DIALECT, {"/v1/models": page})
    assert found
    assert (found.models, found.told) == (("a", "b"), {"models": "/v1/models"})


@pytest.mark.parametrize("page", [b"", b"<html>", b"{}", b'{"data": [{"name": "a"}]}', b"\xff"])
def test_a_server_that_lists_no_models_is_known_when_one_is_named(page: bytes) -> None:
    assert described_by(DIALECT, {"/v1/models": page}) is None
    found = described_by(DIALECT, {"/v1/models": page}, model="m")
    assert found
    assert found.models == ()


def test_the_limits_of_the_hosted_api_are_those_of_its_specification() -> None:
    found = described_by(DIALECT, {}, "https://api.openai.com", "m")
    assert found
    assert found.limits == Limits(tokens_per_text=8192, texts_per_request=2048, tokens_per_request=300_000)


@pytest.mark.parametrize(
    "items",
    [
        [{"index": 0, "embedding": [1, 2.5]}, {"index": 0, "embedding": [1, 2]}],
        [{"index": 0, "embedding": [1, 2.5]}, {"index": 2, "embedding": [1, 2]}],
        [{"index": 0, "embedding": [1, 2.5]}, {"index": 1, "embedding": [1, 2, 3]}],
        [{"index": 0, "embedding": [1, 2.5]}, {"index": 1, "embedding": [1, None]}],
        [{"index": 0, "embedding": [1, 2.5]}, {"index": 1, "embedding": [[1], 2]}],
        [{"index": 0, "embedding": [1, 2.5]}],
        [{"index": 0, "embedding": [1, 2.5]}, {"embedding": [1, 2]}],
    ],
)
def test_floats_that_are_no_answer_are_a_fault(items: list[dict[str, Any]]) -> None:
    with pytest.raises(Fault) as raised:
        finished(OpenAI().answer(Reply(200, {}, msgspec.json.encode({"data": items})), 2))
    assert raised.value.kind is Kind.WRONG_ANSWER


def test_the_same_reader_reads_one_answer_after_another() -> None:
    dialect = OpenAI()
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    for some in (rows, rows[:3], rows[::-1]):
        data = [{"index": i, "embedding": row.tolist()} for i, row in enumerate(some)]
        for order in (data, data[::-1]):
            body = msgspec.json.encode({"object": "list", "data": order, "usage": {"prompt_tokens": 9}})
            got = finished(dialect.answer(Reply(200, {}, body), len(some)))
            np.testing.assert_array_equal(got.vectors, some)
            assert got.tokens == 9
        one = finished(dialect.answer(Reply(200, {}, b'{"data":[{"index":0,"embedding":[1]}]}'), 1))
        assert one.vectors.tolist() == [[1.0]]

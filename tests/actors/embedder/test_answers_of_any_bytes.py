"""Whatever bytes a server sends: the vectors that a plain reader finds in them, or the documented fault."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import astuple
from unittest import mock

import httpx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.embedder.client import EmbeddingClient
from actors.embedder.dialects import DIALECTS, Answer, Reply
from actors.embedder.dialects.bare_list import BareList
from actors.embedder.dialects.errors import fault as fault_of
from actors.embedder.dialects.headers import allowance
from actors.embedder.faults import POLICIES, Fault, Kind
from actors.messages import Endpoint
from tests.actors.embedder.answers import (
    Spelling,
    Vectors,
    bare_answers,
    base64_of,
    damaged,
    embedding_list,
    finished,
    misplaced_answers,
    read_bare_plainly,
    read_plainly,
    right_answers,
    rubbish,
    uneven_answers,
    uneven_bare_answers,
)
from tests.actors.embedder.looking import described
from tests.examples import examples

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in cast")
CLIENT = EmbeddingClient(Endpoint("http://host", "m", "openai", None))
BARE = BareList()
every_dialect = pytest.mark.parametrize("name", DIALECTS)
step_bytes = st.sampled_from([20, 1 << 20])  # with few, small answers are read in several steps


def assert_is_wrong_answer(fault: Fault) -> None:
    assert fault.kind is Kind.WRONG_ANSWER
    assert len(fault.detail.splitlines()) == 1


def read(name: str, body: bytes, texts: int, headers: Mapping[str, str] | None = None) -> Answer | None:
    """The answer; None when it is a wrong one. Anything else fails."""
    try:
        answer = finished(DIALECTS[name].answer(Reply(200, headers or {}, body), texts))
    except Fault as fault:
        assert_is_wrong_answer(fault)
        return None
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.ndim == 2
    assert len(answer.vectors) == texts
    assert answer.tokens is None or isinstance(answer.tokens, int)
    return answer


def embedded(body: bytes, texts: int, dim: int | None) -> Answer:
    """What the client makes of it."""
    with mock.patch.object(CLIENT, "_answer_to", return_value=nullcontext(Reply(200, {}, body))):
        return asyncio.run(CLIENT.embed([""] * texts, dim))


def wrong(body: bytes, texts: int, dim: int) -> None:
    with pytest.raises(Fault) as raised:
        embedded(body, texts, dim)
    assert_is_wrong_answer(raised.value)


def read_in_steps(body: bytes, texts: int, size: int) -> Answer | None:
    module = "actors.embedder.dialects.embedding_list"
    with mock.patch.multiple(module, _BASE64_BYTES=size, _NUMBERS_BYTES=size):
        return read("openai", body, texts)


def read_bare(body: bytes, texts: int, size: int) -> Vectors | None:
    """A bare list, in steps; None when it is a wrong one."""
    module = "actors.embedder.dialects.embedding_list"
    with mock.patch.multiple(module, _BASE64_BYTES=size, _NUMBERS_BYTES=size):
        reading = BARE.read(body, texts)
        while True:
            try:
                next(reading)
            except StopIteration as done:
                vectors: Vectors = done.value
                return vectors
            except Fault as fault:
                assert_is_wrong_answer(fault)
                return None


def assert_nothing_made_up_of_bare(body: bytes, texts: int, size: int) -> None:
    vectors = read_bare(body, texts, size)
    if vectors is not None:
        expected = read_bare_plainly(body, texts)
        assert expected is not None
        np.testing.assert_array_equal(vectors, expected)


def assert_nothing_made_up(body: bytes, texts: int, size: int) -> None:
    """An answer is taken for no other vectors than those it holds."""
    answer = read_in_steps(body, texts, size)
    if answer is not None:
        expected = read_plainly(body, texts)
        assert expected is not None
        np.testing.assert_array_equal(answer.vectors, expected)


# --- vectors ----------------------------------------------------------------------------------------------------


@examples(300)
@given(right_answers(), step_bytes)
def test_right_answers_are_read_in_every_spelling(right: tuple[bytes, Vectors], size: int) -> None:
    body, vectors = right
    answer = read_in_steps(body, len(vectors), size)
    assert answer is not None
    np.testing.assert_array_equal(answer.vectors, vectors)
    np.testing.assert_array_equal(read_plainly(body, len(vectors)), vectors)


@examples(500)
@given(uneven_answers(), step_bytes)
def test_nothing_is_made_up_where_vectors_are_of_several_lengths(odd: tuple[bytes, int], size: int) -> None:
    assert_nothing_made_up(*odd, size)


@examples(500)
@given(misplaced_answers(), step_bytes)
def test_nothing_is_made_up_where_vectors_are_missing_or_elsewhere(odd: tuple[bytes, int], size: int) -> None:
    assert_nothing_made_up(*odd, size)


@examples(400)
@given(right_answers(), st.data(), step_bytes)
def test_nothing_is_made_up_where_bytes_are_damaged(
    right: tuple[bytes, Vectors], data: st.DataObject, size: int
) -> None:
    assert_nothing_made_up(data.draw(damaged(right[0])), len(right[1]), size)


@examples(300)
@example((b"[[18446744073709551616, 1]]", np.array([[2.0**64, 1]], np.float32)), 20)  # too large for simdjson
@given(bare_answers(), step_bytes)
def test_bare_lists_are_read_in_every_spelling(right: tuple[bytes, Vectors], size: int) -> None:
    body, vectors = right
    np.testing.assert_array_equal(read_bare(body, len(vectors), size), vectors)
    np.testing.assert_array_equal(read_bare_plainly(body, len(vectors)), vectors)


@examples(500)
@given(uneven_bare_answers(), step_bytes)
def test_nothing_is_made_up_of_bare_lists_that_are_odd(odd: tuple[bytes, int], size: int) -> None:
    assert_nothing_made_up_of_bare(*odd, size)


@examples(400)
@given(bare_answers(), st.data(), step_bytes)
def test_nothing_is_made_up_of_bare_lists_whose_bytes_are_damaged(
    right: tuple[bytes, Vectors], data: st.DataObject, size: int
) -> None:
    assert_nothing_made_up_of_bare(data.draw(damaged(right[0])), len(right[1]), size)


headers_of_answers = st.sampled_from(
    [
        {},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/json", "x-compute-tokens": "7"},
        {"x-compute-tokens": "\u0662"},
        {"x-compute-tokens": "9" * 5000},
    ]
)
by_type = bare_answers().map(lambda right: b'{"id":"1","embeddings":{"float":%s,"base64":null}}' % right[0])
bodies = st.one_of(
    rubbish,
    right_answers().map(lambda right: right[0]),
    bare_answers().map(lambda right: right[0]),
    by_type,
    by_type.flatmap(damaged),
    st.integers(0, 40).map(bytes),
)


@every_dialect
@examples(300)
@given(bodies, st.integers(1, 3), headers_of_answers)
def test_a_dialect_reads_as_many_vectors_as_texts_or_none(
    name: str, body: bytes, texts: int, headers: dict[str, str]
) -> None:
    read(name, body, texts, headers)


numbers = st.one_of(st.floats(width=32), st.sampled_from([0.0, 0.0, 0.0, 1.0, 1e-30, 1e-45, 1e30]))


@examples(200)
@given(st.integers(1, 3).flatmap(lambda dim: st.lists(st.lists(numbers, min_size=dim, max_size=dim), min_size=1)))
def test_only_finite_vectors_that_are_not_all_zero_pass_the_client(rows: list[list[float]]) -> None:
    given_rows = np.array(rows, np.float32)
    dim = given_rows.shape[1]
    body = Spelling([":"], ",").of(embedding_list([base64_of(row.tobytes()) for row in given_rows]))
    if np.isfinite(given_rows).all() and given_rows.any(axis=1).all():
        np.testing.assert_array_equal(embedded(body, len(rows), dim).vectors, given_rows)
    else:
        wrong(body, len(rows), dim)
    wrong(body, len(rows), dim + 1)
    wrong(body, len(rows) + 1, dim)


# --- errors and models ------------------------------------------------------------------------------------------

huge = "9" * 20
dates = st.builds(
    "Wed, {} Oct {} {}:28:00 {}".format,
    st.sampled_from(["21", "99", "x"]),
    st.sampled_from(["2015", "0", "9999", huge]),
    st.sampled_from(["07", "25", huge]),
    st.sampled_from(["GMT", "-0000", "+9999", "-" + huge, ""]),
).map(str.encode)
seconds = st.sampled_from([b"7", b"nan", b"inf", b"-inf", b"-1", b"1e3", b"1e999", b"\xb2", huge.encode()])
header = st.one_of(st.binary(max_size=12), dates, seconds)
says = st.sampled_from(
    [
        "maximum allowed batch size {}",
        "insufficient_quota",
        "requested {} tokens, max {} tokens per request",
        "maximum context length is {} tokens, however you requested {}",
        "must have less than {} characters. Given: {}",
        "input ({} tokens) is too large, batch size: {}",
        "String should have at most {} characters, not {}",
        "\n{}\0é\ud800",
    ]
)
number = st.sampled_from(["0", "32", "33", "9" * 400])
message = st.builds(str.format, says, number, number).map(
    lambda text: json.dumps({"error": {"message": text}}).encode()
)
flaws = st.builds(
    lambda text, given: json.dumps({"detail": [{"msg": text, "input": given}]}, separators=(",", ":")).encode(),
    st.sampled_from(["String should have at most 9 characters", "List should have at most 9 items", "no"]),
    st.sampled_from(["x" * 10, "", None, ["x"], 7, "\ud800"]),
)
status = st.sampled_from([400, 413, 422, 429, 500, 503]) | st.integers(100, 599)


@examples(300)
@given(
    status,
    st.dictionaries(st.sampled_from([b"retry-after", b"retry-after-ms", b"x"]), header),
    st.one_of(rubbish, message, message.flatmap(damaged), flaws, flaws.flatmap(damaged)),
)
def test_any_error_is_a_fault_that_can_be_told(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    fault = fault_of(Reply(status, httpx.Headers(headers), body))
    assert fault.kind in POLICIES
    assert fault.status == status
    assert len(fault.detail) <= 300
    assert len(fault.detail.splitlines()) <= 1
    fault.detail.encode()
    assert fault.retry_after_s is None or fault.retry_after_s >= 0
    assert fault.most_rows is None or fault.most_rows > 0
    assert fault.most_tokens is None or fault.most_tokens > 0
    assert fault.fits is None or 0 < fault.fits < 1


limits = st.sampled_from(
    [f"x-ratelimit-{name}-{what}".encode() for name in ("remaining", "reset") for what in ("requests", "tokens")]
)
amount = st.sampled_from(
    [b"5", b"0", b"-1", b"nan", b"inf", b"6m0s", b"120ms", b"9" * 400, b"9" * 400 + b"s", b"\xb2"]
)


@examples(300)
@given(st.dictionaries(limits, amount | st.binary(max_size=9)))
def test_any_allowance_is_of_plain_numbers(headers: dict[bytes, bytes]) -> None:
    told = allowance(httpx.Headers(headers), 7.0)
    if told is not None:
        numbers = [told.requests, told.tokens, told.requests_reset_s, told.tokens_reset_s]
        assert all(each is None or (math.isfinite(each) and each >= 0) for each in numbers)
        assert told.at == 7.0


names = st.lists(st.text(max_size=5)).map(lambda ids: json.dumps({"data": [{"id": each} for each in ids]}).encode())
page = st.none() | st.builds(
    lambda status, body: Reply(status, httpx.Headers(), body),
    status | st.just(200),
    rubbish | names | names.flatmap(damaged),
)


@every_dialect
@examples(200)
@given(st.lists(page, min_size=8, max_size=8), st.sampled_from(["", "m"]))
def test_whatever_the_pages_are_what_is_found_can_be_told(name: str, pages: list[Reply | None], model: str) -> None:
    description = described(DIALECTS[name], lambda count, _: pages[count % len(pages)], model=model)
    if description is not None:
        " ".join([description.server, description.route, *description.models, *description.encodings]).encode()
        assert all(limit is None or limit > 0 for limit in astuple(description.limits))

"""Whatever bytes come from a KServe server: the vectors that a plain reader finds in them, or a fault."""

from __future__ import annotations

import json
import math

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.dialects import Answer, Reply
from actors.embedder.dialects.kserve import KServe
from actors.embedder.faults import Fault, Kind
from tests.actors.embedder.answers import Vectors, damaged, finished, rubbish, vectors
from tests.actors.embedder.looking import described
from tests.examples import examples

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in cast")
DIALECT = KServe()
TYPES = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8"}
LENGTH = "inference-header-content-length"
Body = tuple[bytes, str]  # and what the header says is the length of its JSON; empty: nothing


def assert_is_wrong_answer(fault: Fault) -> None:
    assert fault.kind is Kind.WRONG_ANSWER
    assert len(fault.detail.splitlines()) == 1


def read(body: bytes, length: str, texts: int) -> Answer | None:
    """The answer; None when it is a wrong one. Anything else fails."""
    headers = httpx.Headers({LENGTH: length} if length else {})
    try:
        answer = finished(DIALECT.answer(Reply(200, headers, body), texts))
    except Fault as fault:
        assert_is_wrong_answer(fault)
        return None
    assert (answer.vectors.dtype, len(answer.vectors)) == (np.float32, texts)
    return answer


def read_plainly(body: bytes, length: str, texts: int) -> Vectors | None:
    """What the standard library and the specification make of it."""
    try:
        size = int(length) if length else len(body)
        header = body[:size].decode(errors="surrogateescape")
        (output,) = json.loads(header, strict=False)["outputs"]
        shape = output["shape"]
        if texts == 1 and len(shape) == 1:
            shape = [1, *shape]
        assert shape[0] == texts
        assert len(shape) > 1
        if length:
            data = body[size:]
            assert output["parameters"]["binary_data_size"] == len(data)
            values = np.frombuffer(data, TYPES[output["datatype"]])
        else:
            assert output["datatype"] in (*TYPES, "BF16")
            values = np.array(_numbers(output["data"]), np.float64)
        assert math.prod(shape) == values.size > 0
        with np.errstate(over="ignore"):
            return values.astype(np.float32).reshape(texts, -1)
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError, OverflowError):
        return None


def _numbers(data: object) -> list[float]:
    if isinstance(data, list):
        return [number for each in data for number in _numbers(each)]
    assert type(data) in (int, float)
    return [data]  # type: ignore[list-item]


def assert_nothing_made_up(body: bytes, length: str, texts: int) -> None:
    answer = read(body, length, texts)
    if answer is not None:
        expected = read_plainly(body, length, texts)
        assert expected is not None
        np.testing.assert_array_equal(answer.vectors, expected)


@st.composite
def right_answers(draw: st.DrawFn) -> tuple[Body, int]:
    rows, dim = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    values = draw(vectors(rows, dim))
    datatype = draw(st.sampled_from(list(TYPES)))
    shape = draw(st.sampled_from([[rows, dim], [rows, 1, dim]]))
    output: dict[str, object] = {"name": "E", "datatype": datatype, "shape": shape}
    if draw(st.booleans()):
        numbers = values.astype(float)
        output["data"] = draw(st.sampled_from([numbers, numbers.ravel(), numbers[:, None]])).tolist()
        return (json.dumps({"outputs": [output]}).encode(), ""), rows
    with np.errstate(over="ignore"):
        data = values.astype(TYPES[datatype]).tobytes()
    output["parameters"] = {"binary_data_size": len(data)}
    header = json.dumps({"model_name": "m", "outputs": [output]}).encode()
    return (header + data, str(len(header))), rows


lengths = st.integers(-2, 300).map(str) | st.sampled_from(["", "0", "x", "9" * 20, "1_0", " 7"])


@examples(300)
@given(right_answers())
def test_right_answers_are_read(right: tuple[Body, int]) -> None:
    (body, length), texts = right
    expected, answer = read_plainly(body, length, texts), read(body, length, texts)
    assert answer is not None
    np.testing.assert_array_equal(answer.vectors, expected)


@examples(500)
@given(right_answers(), st.data())
def test_nothing_is_made_up_where_bytes_are_damaged(right: tuple[Body, int], data: st.DataObject) -> None:
    (body, length), texts = right
    assert_nothing_made_up(data.draw(damaged(body)), length, texts)


@examples(300)
@given(right_answers(), lengths, st.integers(1, 4))
def test_nor_where_the_length_or_the_number_of_texts_is_another(
    right: tuple[Body, int], length: str, texts: int
) -> None:
    (body, own), _ = right
    assert_nothing_made_up(body, own, texts)
    if length.isascii() and length.isdecimal():
        assert_nothing_made_up(body, length, texts)
    else:
        read(body, length, texts)


@examples(200)
@given(rubbish, lengths, st.integers(1, 3))
def test_rubbish_is_no_answer(body: bytes, length: str, texts: int) -> None:
    assert read(body, length, texts) is None


tensors = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text(max_size=3),
            "datatype": st.sampled_from(["BYTES", "FP32", "FP16", "INT64", ""]),
            "shape": st.lists(st.sampled_from([-1, 0, 1, 2, 384, 2**40]), max_size=3),
        }
    ),
    max_size=2,
)
metadata = st.fixed_dictionaries({"inputs": tensors, "outputs": tensors}).map(
    lambda page: json.dumps(page).encode()
)
server = st.just(b'{"name":"triton","version":"2","extensions":["binary_tensor_data"]}')
config = st.fixed_dictionaries(
    {"max_batch_size": st.sampled_from([-1, 0, 8]), "dynamic_batching": st.sampled_from([None, {}])}
).map(lambda page: json.dumps(page).encode())


@examples(300)
@given(st.tuples(server, st.just(b"[]") | rubbish, metadata | metadata.flatmap(damaged), config | rubbish))
def test_any_model_s_page_leaves_tensors_or_words_that_name_them(pages: tuple[bytes, ...]) -> None:
    try:
        found = described(DIALECT, lambda count, _: Reply(200, {}, pages[count]), model="m")
    except Fault as fault:
        assert_is_wrong_answer(fault)
        return
    assert found
    assert found.dim is None or found.dim > 1
    limit = found.limits.texts_per_request
    assert limit is None or limit > 0
    assert all("->" in each or each.startswith("takes ") for each in found.encodings)
    " ".join(found.encodings).encode()

"""The fast reader of embedding lists: right where it answers at all, and silent where the slow one must speak."""

from __future__ import annotations

import base64

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.dialects.embedding_list import EmbeddingList

READER = EmbeddingList()


def encoded(row: list[float], as_base64: bool) -> object:
    return base64.b64encode(np.array(row, "<f4").tobytes()).decode() if as_base64 else row


def body_of(rows: list[list[float]], as_base64: bool, order: list[int], spaced: bool = False) -> bytes:
    data = [{"object": "embedding", "index": i, "embedding": encoded(rows[i], as_base64)} for i in order]
    body = msgspec.json.encode({"object": "list", "data": data, "usage": {"prompt_tokens": 7}})
    return body.replace(b":", b" : ").replace(b",", b" ,\n") if spaced else body


@given(st.data(), st.integers(1, 12), st.integers(1, 9), st.booleans(), st.booleans())
def test_vectors_in_the_order_of_their_index(
    data: st.DataObject, rows: int, dim: int, as_base64: bool, spaced: bool
) -> None:
    numbers = st.floats(-1e6, 1e6, width=32)
    given_rows = data.draw(st.lists(st.lists(numbers, min_size=dim, max_size=dim), min_size=rows, max_size=rows))
    order = data.draw(st.permutations(range(rows)))
    read = READER.read(body_of(given_rows, as_base64, list(order), spaced), rows)
    assert read is not None
    np.testing.assert_array_equal(read[0], np.array(given_rows, np.float32))
    assert read[0].dtype == np.float32
    assert read[1] == 7


GOOD = body_of([[1.0, 2.0, 3.0]] * 3, True, [0, 1, 2])
NUMBERS = body_of([[1.0, 2.0]] * 3, False, [0, 1, 2])


@pytest.mark.parametrize(
    "body",
    [
        GOOD[:-40],
        GOOD.replace(b'"index":1', b'"index":2'),
        GOOD.replace(b'"index":1', b'"index":9'),
        GOOD.replace(b"AACAPwAAAEAAAEBA", b"AACAPwAAAEAAAEB!", 1),
        GOOD.replace(b"AACAPwAAAEAAAEBA", b"AACAPwAAAEA=", 1),
        GOOD.replace(b"AACAPwAAAEAAAEBA", b"AACAPwAA", 3),  # one and a half numbers
        GOOD.replace(b"AACAPwAAAEAAAEBA", b"", 3),
        NUMBERS.replace(b"[1.0,2.0]", b"[1.0,[2.0]]", 1),
        NUMBERS.replace(b"[1.0,2.0]", b"[1.0]", 1),
        NUMBERS.replace(b"[1.0,2.0]", b'[1.0,"x"]', 1),
        NUMBERS.replace(b"[1.0,2.0]", b"[]", 3),
        NUMBERS.replace(b"[1.0,2.0]", b'"AACAPwAAAEA="', 1),
        b'{"error":"no"}',
        b"",
        b"<html>",
    ],
)
def test_it_says_nothing_where_anything_is_wrong(body: bytes) -> None:
    assert READER.read(body, 3) is None
    assert READER.read(GOOD, 3) is not None


@pytest.mark.parametrize("texts", [2, 4])
def test_another_number_of_vectors(texts: int) -> None:
    assert READER.read(GOOD, texts) is None
    assert READER.read(NUMBERS, texts) is None

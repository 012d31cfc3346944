"""The fast reader of embedding lists: right where it answers at all, and silent where the slow one must speak."""

from __future__ import annotations

import base64
import mmap
from collections.abc import Generator
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.dialects.embedding_list import EmbeddingList, Vectors

READER = EmbeddingList()
T = TypeVar("T")


def read_whole(body: bytes, texts: int) -> tuple[Vectors, int | None] | None:
    """From memory of its own, which is then overwritten."""
    with mmap.mmap(-1, max(1, len(body))) as memory:
        memory[: len(body)] = body
        read = finished(READER.read(memory if body else body, texts))
        memory[:] = bytes(len(memory))
    plain = finished(READER.read(body, texts))
    assert (read is None) is (plain is None)
    if read and plain:
        np.testing.assert_array_equal(read[0], plain[0])
        assert read[1] == plain[1]
    return read


def finished(decoding: Generator[None, None, T]) -> T:
    while True:
        try:
            next(decoding)
        except StopIteration as done:
            return done.value


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
    read = read_whole(body_of(given_rows, as_base64, list(order), spaced), rows)
    assert read is not None
    np.testing.assert_array_equal(read[0], np.array(given_rows, np.float32))
    assert read[0].dtype == np.float32
    assert read[1] == 7


@pytest.mark.parametrize("as_base64", [True, False])
@pytest.mark.parametrize("dim", [300, 301])
def test_a_large_answer_lets_others_run_and_several_may_be_read_at_a_time(
    as_base64: bool, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_BASE64_BYTES", "_NUMBERS_BYTES"):
        monkeypatch.setattr(f"actors.embedder.dialects.embedding_list.{name}", 10_000)
    rows = [
        np.random.default_rng(seed).standard_normal((50, dim)).astype(np.float32).astype(float).tolist()
        for seed in range(3)
    ]
    reading = {i: READER.read(body_of(each, as_base64, list(range(50))), 50) for i, each in enumerate(rows)}
    steps = 0
    while reading:
        for i, each in list(reading.items()):
            try:
                next(each)
                steps += 1
            except StopIteration as done:
                np.testing.assert_array_equal(done.value[0], np.array(rows[i], np.float32))
                del reading[i]
    assert steps >= 3 * 5


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
    assert read_whole(body, 3) is None
    assert read_whole(GOOD, 3) is not None


@pytest.mark.parametrize("sizes", [(9, 7), (7, 9), (11, 10, 12), (9, 8, 7)])
def test_base64_of_several_lengths_that_add_up_to_whole_vectors(sizes: tuple[int, ...]) -> None:
    data = [{"index": i, "embedding": base64.b64encode(bytes(size)).decode()} for i, size in enumerate(sizes)]
    assert read_whole(msgspec.json.encode({"data": data}), len(sizes)) is None


@pytest.mark.parametrize(
    "item",
    [
        b'"embedding":[1],"embedding":""',
        b'"embedding":"AACAPw==","embedding":[]',
        b'"meta":{"embedding":"AACAPw=="},"embedding": ""',
        b'"meta":{"embedding":[1]},"embedding":0',
        b'"embedding":"AACAPw=="5',
    ],
)
def test_a_vector_that_is_not_the_items_own(item: bytes) -> None:
    assert read_whole(b'{"data":[{"index":0,%s}]}' % item, 1) is None


@pytest.mark.parametrize("texts", [2, 4])
def test_another_number_of_vectors(texts: int) -> None:
    assert read_whole(GOOD, texts) is None
    assert read_whole(NUMBERS, texts) is None

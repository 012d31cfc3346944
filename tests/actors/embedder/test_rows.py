"""Lists of numbers cut out of an answer: right where they are read at all, and nothing where anything is odd."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.dialects.embedding_list import MARK, Vectors
from actors.embedder.dialects.rows import Rows, first_list
from tests.actors.embedder.answers import Spelling, damaged, vectors
from tests.examples import examples

ROWS = Rows()


def whole(body: bytes, name: bytes, rows: int | None) -> tuple[Vectors, bytes] | None:
    start = first_list(body, name)
    if start is None:
        return None
    reading = ROWS.flat(body, start) if rows is None else ROWS.nested(body, start, rows)
    while True:
        try:
            next(reading)
        except StopIteration as done:
            return done.value


spellings = st.builds(Spelling, st.sampled_from([[":"], [" :\n"], [": ", ":"]]), st.sampled_from([",", " ,\n\t"]))
some_vectors = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(lambda size: vectors(*size))


def rest_of(rest: bytes) -> object:
    return json.loads(rest)


@examples(200)
@given(some_vectors, spellings)
def test_what_is_cut_out_is_all_there(given_rows: Vectors, spelling: Spelling) -> None:
    fields = (("a", ["x", []]), ("v", given_rows.astype(float).tolist()), ("z", [[1]]))
    read = whole(spelling.of(fields), b"v", len(given_rows))
    assert read
    np.testing.assert_array_equal(read[0], given_rows)
    assert rest_of(read[1]) == {"a": ["x", []], "v": [MARK] * len(given_rows), "z": [[1]]}


@examples(200)
@given(some_vectors, spellings)
def test_so_is_one_list(given_rows: Vectors, spelling: Spelling) -> None:
    fields = (("a", []), ("v", given_rows.astype(float).ravel().tolist()), ("z", [1]))
    read = whole(spelling.of(fields), b"v", None)
    assert read
    np.testing.assert_array_equal(read[0], given_rows.reshape(1, -1))
    assert rest_of(read[1]) == {"a": [], "v": MARK, "z": [1]}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@examples(400)
@given(some_vectors, st.booleans(), st.data())
def test_nothing_is_made_up_where_bytes_are_damaged(given_rows: Vectors, flat: bool, data: st.DataObject) -> None:
    rows = given_rows.astype(float)
    body = data.draw(damaged(json.dumps({"v": (rows.ravel() if flat else rows).tolist(), "w": 1}).encode()))
    read = whole(body, b"v", None if flat else len(given_rows))
    if read is None:
        return
    try:
        rest = rest_of(read[1])
    except (ValueError, RecursionError):
        return  # nobody takes it then
    if not isinstance(rest, dict) or rest.get("v") != (MARK if flat else [MARK] * len(given_rows)):
        return
    expected = np.array(json.loads(body)["v"], float).astype(np.float32)
    np.testing.assert_array_equal(read[0], expected.reshape(read[0].shape))


@pytest.mark.parametrize(
    "body",
    [
        b'{"v":[]}',
        b'{"v":[[]]}',
        b'{"v":[[1]',
        b'{"v":[[1]] ',
        b'{"v":[1]}',
        b'{"v":[[1],[2]]}',
        b'{"v":[["1"]]}',
        b'{"v":[[true]]}',
        b'{"v":[[[1]]]}',
        b'{"v":{"x":[[1]]}}',
        b'{"v":[%b[1]]}' % (b" " * 100),
        b'{"w":[[1]]}',
        b'{"v":1}',
        b"",
    ],
)
def test_it_says_nothing_where_there_is_not_one_row(body: bytes) -> None:
    read = whole(body, b"v", 1)
    assert read is None or not read[1].rstrip().endswith(b"}")


@pytest.mark.parametrize(
    "body", [b'{"v":[]}', b'{"v":[ ]}', b'{"v":[1', b'{"v":[[1]]}', b'{"v":["1"]}', b'{"v":[1,,2]}', b'{"v":[1,]}']
)
def test_nor_where_there_is_no_list_of_numbers(body: bytes) -> None:
    assert whole(body, b"v", None) is None


def test_nor_where_there_are_fewer_rows() -> None:
    assert whole(b'{"v":[[1]]}', b"v", 2) is None


def test_a_name_in_a_text_is_none() -> None:
    assert first_list(json.dumps({"x": '"v":[', "y": "v", "z": ["v"]}).encode(), b"v") is None
    assert first_list(b'{"x":"v","v" : [1]}', b"v") == len(b'{"x":"v","v" : [')
    assert first_list(b'{"x":"v","v" : [1]}', b"v", within=10) is None

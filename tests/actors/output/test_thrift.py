"""Thrift's compact protocol, against what pyarrow writes and reads."""

from __future__ import annotations

import io
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.output.thrift import (
    BINARY,
    BYTE,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    List,
    decode,
    encode,
    varint,
)

numbers = st.integers(-(2**63), 2**63 - 1)
leaves = (
    st.tuples(st.sampled_from([I16, I32, I64]), numbers)
    | st.tuples(st.just(BINARY), st.binary(max_size=300))
    | st.just((TRUE, True))
    | st.just((FALSE, False))
    | st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8))
    | st.tuples(st.just(LIST), st.lists(numbers, max_size=20).map(lambda values: List(I64, values)))
    | st.tuples(st.just(LIST), st.lists(st.sampled_from([b"\1", b"\2"])).map(lambda values: List(BYTE, values)))
)
structs = st.recursive(
    st.dictionaries(st.integers(1, 100), leaves, max_size=5),
    lambda inner: st.dictionaries(
        st.integers(1, 100),
        leaves
        | st.tuples(st.just(STRUCT), inner)
        | st.tuples(st.just(LIST), st.lists(inner, max_size=17).map(lambda values: List(STRUCT, values))),
        max_size=4,
    ),
    max_leaves=20,
)


@given(structs)
def test_what_was_encoded_is_decoded(value: dict[int, tuple[int, object]]) -> None:
    assert decode(encode(value)) == value


def test_pyarrows_own_footer_comes_back_byte_for_byte() -> None:
    file = io.BytesIO()
    table = pa.table({"a": [1, 2, None], "b": [[1.5], [], None], "c": ["x", "y", "z"], "d": [True, None, False]})
    pq.write_table(table.replace_schema_metadata({"k": "v"}), file)
    data = file.getvalue()
    (size,) = struct.unpack("<I", data[-8:-4])
    footer = data[-8 - size : -8]
    assert encode(decode(footer)) == footer


@pytest.mark.parametrize(("number", "size"), [(0, 1), (127, 1), (128, 2), (2**14, 3), (2**62, 9)])
def test_a_number_takes_as_few_bytes_as_it_needs(number: int, size: int) -> None:
    assert len(varint(number)) == size


def test_a_struct_that_is_cut_off_is_an_error() -> None:
    whole = encode({1: (BINARY, b"some bytes"), 3: (I64, 5)})
    for end in range(len(whole)):
        with pytest.raises(IndexError):
            decode(whole[:end])


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="type 15"):
        decode(b"\x1f\0")
    with pytest.raises(ValueError, match="type 15"):
        encode({1: (15, None)})

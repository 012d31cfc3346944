"""The Parquet file that is put together by hand: every reader finds in it what pyarrow would have written."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.output import vector_file

SHAPES = [(1, 1), (5, 1), (3, 2), (700, 384), (513, 1024), (100, 4096), (2, 300_000)]


def vectors_of(rows: int, dim: int, dtype: str) -> vector_file.Vectors:
    return np.random.default_rng(dim).standard_normal((rows, dim)).astype(dtype)


def schema_of(dim: int, dtype: str, *more: pa.Field) -> pa.Schema:
    element = pa.float16() if dtype == "float16" else pa.float32()
    return pa.schema([pa.field("id", pa.int64()), pa.field("embedding", pa.list_(element, dim)), *more])


def written(schema: pa.Schema, others: pa.Table, vectors: vector_file.Vectors) -> bytes:
    file = io.BytesIO()
    vector_file.write(file, schema, others, vectors, {"a key": "its value"})
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("rows", "dim"), SHAPES)
def test_pyarrow_reads_what_it_would_have_written(rows: int, dim: int, dtype: str) -> None:
    vectors, schema = vectors_of(rows, dim, dtype), schema_of(dim, dtype)
    others = pa.table({"id": pa.array(np.arange(rows) * 7)})
    data = written(schema, others, vectors)
    flat = pa.array(vectors.reshape(-1))
    embedding = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("embedding").type)
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    assert file.read().equals(pa.Table.from_arrays([others["id"], embedding], schema=schema))
    assert file.metadata.metadata[b"a key"] == b"its value"
    assert file.metadata.num_rows == rows
    column = file.metadata.row_group(0).column(1)
    assert (column.path_in_schema, column.num_values) == ("embedding.list.element", rows * dim)
    assert file.metadata.row_group(0).total_byte_size > vectors.nbytes


def test_the_schema_is_the_one_that_pyarrow_writes() -> None:
    kept = [pa.field("tags", pa.list_(pa.string())), pa.field("at", pa.struct([("x", pa.int8())]))]
    schema = schema_of(8, "float32", *kept)
    others = pa.table({"id": [1, 2], "tags": [["a", "b"], None], "at": [{"x": 1}, None]}, schema=schema.remove(1))
    theirs = io.BytesIO()
    pq.write_table(schema.empty_table(), theirs)
    ours = pq.ParquetFile(io.BytesIO(written(schema, others, vectors_of(2, 8, "float32"))))
    assert ours.schema.equals(pq.ParquetFile(theirs).schema)
    assert ours.schema_arrow.equals(schema)
    assert ours.read().drop_columns(["embedding"]).equals(others)


def test_single_columns_and_rows_can_be_read() -> None:
    vectors = vectors_of(5000, 256, "float32")  # five pages
    data = written(schema_of(256, "float32"), pa.table({"id": np.arange(5000)}), vectors)
    assert pq.read_table(io.BytesIO(data), columns=["id"])["id"].to_pylist() == list(range(5000))
    some = pq.read_table(io.BytesIO(data), filters=[("id", "in", [0, 1023, 1024, 4999])])
    found = np.stack(some["embedding"].to_numpy())
    np.testing.assert_array_equal(found, vectors[[0, 1023, 1024, 4999]])


def test_without_rows() -> None:
    schema = schema_of(4, "float32")
    data = written(schema, schema.empty_table().drop_columns(["embedding"]), vectors_of(0, 4, "float32"))
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.read().equals(schema.empty_table())
    assert file.metadata.metadata[b"a key"] == b"its value"


@pytest.mark.parametrize(("rows", "dim", "dtype"), [(3, 4, "float32"), (2, 5, "float32"), (2, 4, "float16")])
def test_vectors_that_do_not_fit_are_refused(rows: int, dim: int, dtype: str) -> None:
    others = pa.table({"id": [1, 2]})
    with pytest.raises(ValueError, match=rf"{dtype}\({rows}, {dim}\)"):
        written(schema_of(4, "float32"), others, vectors_of(rows, dim, dtype))

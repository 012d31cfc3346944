"""A part read again: any rows of it without the others, and the digests of their texts."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import UserError
from actors.output import vector_file
from actors.output.digests import digest
from actors.output.old_part import OldPart
from tests.examples import examples


def write(path: Path, rows: int, dim: int, dtype: str, *, digests: bool = True) -> vector_file.Vectors:
    vectors: vector_file.Vectors = np.random.default_rng(dim).standard_normal((rows, dim)).astype(dtype)
    element = pa.float16() if dtype == "float16" else pa.float32()
    schema = pa.schema([("id", pa.int64()), ("embedding", pa.list_(element, dim))])
    file = io.BytesIO()
    others = pa.table({"id": pa.array(np.arange(rows))})
    vector_file.write(file, schema, others, vectors, {}, digests_of(rows) if digests else b"")
    path.write_bytes(file.getvalue())
    return vectors


def digests_of(rows: int) -> bytes:
    return b"".join(digest(f"text {row}".encode()) for row in range(rows))


@examples(60)
@given(st.sampled_from([(1, 3), (700, 384), (513, 1024), (3, 300_000)]), st.data(), st.booleans())
def test_any_rows_are_the_ones_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int], data: st.DataObject, half: bool
) -> None:
    path = tmp_path_factory.mktemp("old") / "part.parquet"
    dtype = "float16" if half else "float32"
    vectors = write(path, *shape, dtype)
    rows = np.array(sorted(data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=9))), np.int64)
    rows = np.sort(np.concatenate([rows, np.arange(rows[0], min(rows[0] + 300, shape[0]))]))
    with closing(OldPart(path.parent, path.name, shape[1], dtype)) as part:
        found = [(run, read) for run, read in part.vectors(rows)]
        assert part.digests().tobytes() == digests_of(shape[0])
    np.testing.assert_array_equal(np.concatenate([read for _, read in found]), vectors[rows])
    assert [i for run, _ in found for i in range(run.start, run.stop)] == list(range(len(rows)))
    assert pq.read_table(path).num_rows == shape[0]


def test_readers_of_parquet_do_not_see_the_digests(tmp_path: Path) -> None:
    vectors = write(tmp_path / "part.parquet", 5000, 256, "float32")
    path = str(tmp_path / "part.parquet")
    assert pl.read_parquet(path).columns == pq.read_schema(path).names == ["id", "embedding"]
    np.testing.assert_array_equal(np.array(pl.read_parquet(path)["embedding"].to_list(), np.float32), vectors)
    by_duckdb = duckdb.sql(f"select embedding from read_parquet('{path}') order by id").fetchall()
    np.testing.assert_array_equal(np.array([row[0] for row in by_duckdb], np.float32), vectors)
    assert pq.ParquetFile(path, page_checksum_verification=True).read()["id"].to_pylist() == list(range(5000))


def test_a_part_that_does_not_say_what_its_texts_are_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "part-7.parquet"
    write(path, 3, 4, "float32", digests=False)
    with pytest.raises(UserError, match=r"part-7\.parquet does not say which texts .* run without --reuse"):
        OldPart(path.parent, path.name, 4, "float32")


def test_a_part_without_rows_has_no_digests(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path, 0, 4, "float32")
    with closing(OldPart(path.parent, path.name, 4, "float32")) as part:
        assert len(part.digests()) == 0


def test_damage_is_an_error_that_names_the_part(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path, 3, 4, "float32")
    whole = path.read_bytes()
    at = whole.index(digests_of(3))
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with (
        closing(OldPart(path.parent, path.name, 4, "float32")) as part,
        pytest.raises(UserError, match="digests are damaged"),
    ):
        part.digests()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"part\.parquet cannot be read"):
        OldPart(path.parent, path.name, 4, "float32")
    with pytest.raises(UserError, match=r"gone\.parquet cannot be read"):
        OldPart(tmp_path, "gone.parquet", 4, "float32")


@pytest.mark.parametrize("told", ["{", "[]", '{"hash":"md5"}', '{"hash":"xxh3_128","at":0,"page_rows":0}'])
def test_what_it_says_of_its_texts_may_be_nonsense(tmp_path: Path, told: str) -> None:
    path = tmp_path / "part.parquet"
    write(path, 3, 4, "float32", digests=False)
    table = pq.read_table(path).replace_schema_metadata({vector_file.TEXTS_PROPERTY: told})
    pq.write_table(table, path)
    with pytest.raises(UserError, match=r"part\.parquet cannot be read"):
        OldPart(path.parent, path.name, 4, "float32")

"""Parts and rejects as others read them: types, values, footers, and next to what else lies in the folder."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from actors.messages import Columns
from actors.output.parts import Reject, part_schema, reject_schema, write_part, write_rejects
from actors.output.store import store_of

DIM = 3
PLAIN = Columns("text", None, (), pa.int64(), ())
RICH = Columns(
    "text",
    "doc",
    ("tag", "a.b", "list", "struct", "when"),
    pa.string(),
    (
        pa.string(),
        pa.int32(),
        pa.list_(pa.int64()),
        pa.struct([("x", pa.float64()), ("y", pa.string())]),
        pa.timestamp("us", "UTC"),
    ),
)
ELEMENTS = [("float32", pa.float32()), ("float16", pa.float16())]


def name_of(number: int) -> str:
    return f"part-00000-{number:012d}.parquet"


def vectors_of(rows: int, dtype: str, start: int = 0) -> npt.NDArray[np.float32]:
    return (np.arange(rows * DIM).reshape(rows, DIM) + start).astype(dtype)


def write_plain(out: Path, number: int, ids: list[int], dtype: str = "float32") -> npt.NDArray[np.float32]:
    vectors = vectors_of(len(ids), dtype, number * 100)
    schema = part_schema(PLAIN, DIM, dtype)
    write_part(
        store_of(out),
        name_of(number),
        schema,
        pa.array(ids, pa.int64()),
        vectors,
        [],
        {"rayembed.plan": "abc"},
        "w",
    )
    return vectors


def write_rich(path: Path, rows: int = 2) -> list[pa.Array]:
    values: list[list[object]] = [["x", None], [1, -2], [[1, 2], None], [{"x": 1.5, "y": None}, None], [5, None]]
    keep = [pa.array(each[:rows], type_) for each, type_ in zip(values, RICH.keep_types, strict=True)]
    ids = pa.array(["a", "ü"][:rows], pa.string())
    write_part(
        store_of(path.parent),
        path.name,
        part_schema(RICH, DIM, "float32"),
        ids,
        vectors_of(rows, "float32"),
        keep,
        {},
        "w",
    )
    return keep


# --- a part -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "element"), ELEMENTS)
@pytest.mark.parametrize("rows", [0, 1, 700])
def test_embeddings_are_fixed_size_lists_of_the_element_type(
    tmp_path: Path, dtype: str, element: pa.DataType, rows: int
) -> None:
    vectors = write_plain(tmp_path, 0, list(range(rows)), dtype)
    table = pq.read_table(tmp_path / name_of(0))
    type_ = table.schema.field("embedding").type
    assert pa.types.is_fixed_size_list(type_)
    assert (type_.value_type, type_.list_size) == (element, DIM)
    assert table.schema.names == ["id", "embedding"]
    assert table.schema.field("id").type == pa.int64()
    assert table["id"].to_pylist() == list(range(rows))
    assert table["embedding"].null_count == 0
    read = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    assert read.dtype == np.dtype(dtype)
    assert read.reshape(rows, DIM).tobytes() == vectors.tobytes(), "bit for bit"


def test_extreme_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    vectors = np.array([[-0.0, np.finfo(np.float32).tiny / 2, np.finfo(np.float32).max]], np.float32)
    write_part(
        store_of(tmp_path), name_of(0), part_schema(PLAIN, DIM, "float32"), pa.array([1]), vectors, [], {}, "w"
    )
    column = pq.read_table(tmp_path / name_of(0))["embedding"].combine_chunks()
    assert column.flatten().to_numpy().tobytes() == vectors.tobytes()


def test_kept_columns_follow_with_their_types_and_values(tmp_path: Path) -> None:
    keep = write_rich(tmp_path / name_of(0))
    table = pq.read_table(tmp_path / name_of(0))
    assert table.schema.names == ["id", "embedding", *RICH.keep]
    assert table["id"].to_pylist() == ["a", "ü"]
    for name, type_, column in zip(RICH.keep, RICH.keep_types, keep, strict=True):
        assert table.schema.field(name).type == type_
        assert table[name].to_pylist() == column.to_pylist()


def test_kept_columns_may_be_slices(tmp_path: Path) -> None:
    columns = Columns("text", None, ("tag",), pa.int64(), (pa.string(),))
    tags = pa.array(["no", "x", "y", "no"]).slice(1, 2)
    ids = pa.array([9, 1, 2]).slice(1)
    schema = part_schema(columns, DIM, "float32")
    write_part(store_of(tmp_path), name_of(0), schema, ids, vectors_of(4, "float32")[1:3], [tags], {}, "w")
    assert pq.read_table(tmp_path / name_of(0)).to_pydict() == {
        "id": [1, 2],
        "embedding": [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]],
        "tag": ["x", "y"],
    }


def test_the_footer_holds_the_properties_and_the_schema(tmp_path: Path) -> None:
    properties = {"rayembed.plan": "0123456789abcdef", "rayembed.rejects": "7"}
    schema = part_schema(PLAIN, DIM, "float32")
    write_part(store_of(tmp_path), name_of(0), schema, pa.array([1]), vectors_of(1, "float32"), [], properties, "w")
    footer = pq.read_metadata(tmp_path / name_of(0)).metadata
    assert footer.items() >= {key.encode(): value.encode() for key, value in properties.items()}.items()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_stored_plain(tmp_path: Path, dtype: str) -> None:
    """No dictionary, no codec, no statistics on vectors: they cost CPU and win nothing. Ids have statistics."""
    write_plain(tmp_path, 0, list(range(50)), dtype)
    group = pq.read_metadata(tmp_path / name_of(0)).row_group(0)
    ids, vectors = group.column(0), group.column(1)
    assert vectors.compression == "UNCOMPRESSED"
    assert vectors.statistics is None
    assert not any("DICTIONARY" in encoding for encoding in vectors.encodings)
    assert (ids.statistics.min, ids.statistics.max) == (0, 49)


def test_a_flipped_bit_in_a_vector_is_found_by_the_page_checksum(tmp_path: Path) -> None:
    vectors = write_plain(tmp_path, 0, list(range(500)))
    path = tmp_path / name_of(0)
    content = bytearray(path.read_bytes())
    content[content.index(vectors[100:110].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_arrays_that_do_not_fit_the_schema_leave_nothing(tmp_path: Path) -> None:
    schema = part_schema(PLAIN, DIM, "float32")
    with pytest.raises((ValueError, TypeError)):
        write_part(store_of(tmp_path), name_of(0), schema, pa.array([1, 2]), vectors_of(1, "float32"), [], {}, "w")
    with pytest.raises((ValueError, TypeError)):
        write_part(store_of(tmp_path), name_of(0), schema, pa.array(["x"]), vectors_of(1, "float32"), [], {}, "w")
    assert list(tmp_path.iterdir()) == []


# --- the folder as others read it -------------------------------------------------------------------------------


@pytest.fixture(params=["float32", "float16"])
def messy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three parts (one without rows) among everything that a running job and a crash leave beside them."""
    for number, ids in ((0, [0, 1, 3]), (1, []), (2, [8, 9])):
        write_plain(tmp_path, number, ids, request.param)
    for number, row in ((0, 2), (3, 0)):  # of part 3 only the rejects were written
        write_rejects(
            store_of(tmp_path), name_of(number), PLAIN, pa.array([10, 11, 12]), [Reject(row, "x", 400, "y")], "w"
        )
    half = (tmp_path / name_of(0)).read_bytes()[:-20]
    (tmp_path / f".{name_of(3)}.abc.tmp").write_bytes(half)
    (tmp_path / "_rejects" / f".{name_of(4)}.abc.tmp").write_bytes(half)
    (tmp_path / "_run.json").write_text("{}")
    (tmp_path / "_summary.json").write_text("{}")
    (tmp_path / "_telemetry").mkdir()
    (tmp_path / "_telemetry" / "endpoint.jsonl").write_text('{"t": 1}\n')
    return tmp_path


def test_pyarrow_reads_the_folder_as_it_is(messy: Path) -> None:
    dataset = ds.dataset(messy)
    assert len(dataset.files) == 3
    table = dataset.to_table()
    assert table["id"].to_pylist() == [0, 1, 3, 8, 9]
    assert table.schema.field("embedding").type.list_size == DIM
    assert pq.read_table(messy).equals(table)


@pytest.mark.parametrize("pattern", ["part-*.parquet", "*.parquet"])
def test_duckdb_reads_the_parts(messy: Path, pattern: str) -> None:
    rows = duckdb.connect().execute(f"select id, embedding from '{messy}/{pattern}' order by id").fetchall()
    assert [row[0] for row in rows] == [0, 1, 3, 8, 9]
    assert list(rows[3][1]) == [200.0, 201.0, 202.0]


@pytest.mark.parametrize("pattern", ["part-*.parquet", "*.parquet"])
def test_polars_reads_the_parts(messy: Path, pattern: str) -> None:
    frame = pl.read_parquet(messy / pattern).sort("id")
    assert frame["id"].to_list() == [0, 1, 3, 8, 9]
    assert frame.schema["embedding"].shape == (DIM,)  # type: ignore[attr-defined]
    assert frame["embedding"].to_list()[3] == [200.0, 201.0, 202.0]


def test_others_read_kept_columns_too(tmp_path: Path) -> None:
    write_rich(tmp_path / name_of(0))
    write_rich(tmp_path / name_of(1), rows=0)
    frame = pl.read_parquet(tmp_path / "*.parquet")
    assert frame["tag"].to_list() == ["x", None]
    assert frame["struct"].to_list()[0] == {"x": 1.5, "y": None}
    found = duckdb.connect().execute(f"""select id, "a.b", list from '{tmp_path}/*.parquet'""").fetchall()
    assert found == [("a", 1, [1, 2]), ("ü", -2, None)]


# --- rejects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "ids"),
    [(PLAIN, pa.array([100, 101, 102, 103], pa.int64())), (RICH, pa.array(["a", "b", None, "d"], pa.string()))],
    ids=["positions", "strings"],
)
def test_rejects_hold_the_ids_of_their_rows_in_row_order(tmp_path: Path, columns: Columns, ids: pa.Array) -> None:
    rejects = [
        Reject(3, "too_long", 413, "detail 3"),
        Reject(0, "null_text", None, ""),
        Reject(2, "bad_row", None, "ü"),
    ]
    write_rejects(store_of(tmp_path), name_of(0), columns, ids, rejects, "w")
    table = pq.read_table(tmp_path / "_rejects" / name_of(0))
    assert table.schema.equals(reject_schema(columns))
    assert [(field.name, field.type) for field in table.schema] == [
        ("id", columns.id_type),
        ("reason", pa.string()),
        ("status", pa.int32()),
        ("detail", pa.string()),
    ]
    all_ids = ids.to_pylist()
    assert table.to_pydict() == {
        "id": [all_ids[0], all_ids[2], all_ids[3]],
        "reason": ["null_text", "bad_row", "too_long"],
        "status": [None, None, 413],
        "detail": ["", "ü", "detail 3"],
    }


def test_a_detail_is_cut_to_a_bound(tmp_path: Path) -> None:
    write_rejects(store_of(tmp_path), name_of(0), PLAIN, pa.array([1]), [Reject(0, "x", 400, "y" * 10_000)], "w")
    detail = pq.read_table(tmp_path / "_rejects" / name_of(0))["detail"][0].as_py()
    assert detail == "y" * 500


def test_rejects_written_twice_stand_once(tmp_path: Path) -> None:
    for writer in ("a", "b"):
        write_rejects(store_of(tmp_path), name_of(0), PLAIN, pa.array([1]), [Reject(0, "x", None, "")], writer)
    assert [path.name for path in (tmp_path / "_rejects").iterdir()] == [name_of(0)]
    assert pq.read_metadata(tmp_path / "_rejects" / name_of(0)).num_rows == 1


def test_dictionary_and_codec_reach_nested_kept_columns(tmp_path: Path) -> None:
    """Only `zstd` by top-level name: lists and structs are stored bare."""
    columns = Columns("text", None, ("words",), pa.int64(), (pa.list_(pa.string()),))
    path = tmp_path / "part-00000-000000000000.parquet"
    words = pa.array([["same word"] * 50] * 100, columns.keep_types[0])
    schema = part_schema(columns, 2, "float32")
    write_part(
        store_of(path.parent),
        path.name,
        schema,
        pa.array(range(100)),
        np.zeros((100, 2), np.float32),
        [words],
        {},
        "w",
    )
    assert pq.read_metadata(path).row_group(0).column(2).compression == "ZSTD"

"""Parquet input: every row of every part comes back as it was written, whatever the file's layout."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.corpus import FORMATS, Rows, parquet
from actors.corpus.source import open_source
from actors.errors import UserError
from actors.messages import Columns, Part, SourceFile

FORMAT = FORMATS["parquet"]
TEXT_ONLY = Columns("text", None, (), pa.int64(), ())


def source(path: Path) -> SourceFile:
    survey = FORMAT.survey(str(path))
    return SourceFile(str(path), path.name, "parquet", survey.rows, survey.size, survey.fingerprint)


def part(offset: int, rows: int) -> Part:
    return Part(0, "part", offset, offset, rows)


def read(path: Path, columns: Columns, parts: Sequence[tuple[int, int]]) -> list[Rows]:
    """What one reader answers to these (offset, rows), in this order."""
    reader = FORMAT.open(source(path), columns)
    try:
        return [reader.read(part(offset, rows)) for offset, rows in parts]
    finally:
        reader.close()


def read_all(path: Path, columns: Columns = TEXT_ONLY) -> Rows:
    return read(path, columns, [(0, source(path).rows)])[0]


def ids_of(rows: Rows) -> pa.Array:
    assert rows.ids is not None
    return rows.ids


def strings(values: Sequence[bytes | None], type_: pa.DataType) -> pa.Array:
    """A string array of these bytes, checked by nobody, as a careless writer leaves them in a file."""
    binary = pa.large_binary() if pa.types.is_large_string(type_) else pa.binary()
    return pa.Array.from_buffers(type_, len(values), pa.array(values, binary).buffers())


@functools.cache
def grouped(folder: Path, groups: tuple[int, ...]) -> Path:
    """A file with row groups of these sizes (0 is a group without rows), text and id telling the row."""
    path = folder / f"{'-'.join(map(str, groups))}.parquet"
    schema = pa.schema([("text", pa.string()), ("doc", pa.int32())])
    start = 0
    with pq.ParquetWriter(path, schema) as writer:
        for size in groups:
            rows = range(start, start + size)
            writer.write_table(pa.table([[f"text {i}" for i in rows], rows], schema=schema))
            start += size
    return path


# --- layout -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    groups=st.sampled_from([(9,), (1, 1, 1, 1), (4, 0, 5, 0), (0, 3, 0, 0, 7, 2), (20, 1, 20)]),
    ranges=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
    batch_rows=st.integers(1, 8),
)
def test_any_parts_in_any_order_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    groups: tuple[int, ...],
    ranges: list[tuple[float, float]],
    batch_rows: int,
) -> None:
    path = grouped(tmp_path_factory.getbasetemp(), groups)
    total = sum(groups)
    parts = []
    for at, share in ranges:
        offset = int(at * (total - 1))
        parts.append((offset, 1 + int(share * (total - offset - 1))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BATCH_ROWS", batch_rows)
        answers = read(path, Columns("text", "doc", ("text",), pa.int32(), (pa.string(),)), parts)
    for (offset, rows), answer in zip(parts, answers, strict=True):
        expected = range(offset, offset + rows)
        assert answer.texts == [f"text {i}" for i in expected]
        assert ids_of(answer).equals(pa.array(expected, pa.int32()))
        assert answer.keep[0].to_pylist() == answer.texts
        assert not answer.bad


def test_parts_of_one_giant_row_group_forwards_and_backwards(tmp_path: Path) -> None:
    path = tmp_path / "giant.parquet"
    rows = 3 * parquet._BATCH_ROWS + 17
    pq.write_table(pa.table({"text": [f"{i}" for i in range(rows)]}), path, row_group_size=rows)
    parts = [(offset, min(5000, rows - offset)) for offset in range(0, rows, 5000)]
    forwards = [rows.texts for rows in read(path, TEXT_ONLY, parts)]
    backwards = [rows.texts for rows in read(path, TEXT_ONLY, parts[::-1])]
    assert [text for texts in forwards for text in texts] == [f"{i}" for i in range(rows)]
    assert backwards == forwards[::-1]


def test_reading_forward_decodes_each_row_group_at_most_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[int]] = []
    whole = pq.ParquetFile.iter_batches

    def note(file: pq.ParquetFile, *args: object, row_groups: list[int], **kwargs: object) -> object:
        started.append(row_groups)
        return whole(file, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", note)
    path = grouped(tmp_path, (10, 10, 10, 10))
    read(path, TEXT_ONLY, [(0, 4), (4, 4), (8, 8), (32, 8)])
    assert started == [[0, 1, 2, 3], [3]], "group 2 is jumped over, the others are read in one go"


def test_rows_skipped_are_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "giant.parquet"
    rows, width = 200_000, 512
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        text = pa.array(["x" * width] * rows).dictionary_encode().dictionary_decode()
        writer.write_table(pa.table({"text": text}), row_group_size=rows)
    del text
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        FORMAT.open(source(path), TEXT_ONLY).read(part(rows - 100, 100))
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < rows * width // 4, "a row group may be larger than memory"


@pytest.mark.parametrize("groups", [(), (0,), (0, 0)])
def test_a_file_without_rows(tmp_path: Path, groups: tuple[int, ...]) -> None:
    survey = FORMAT.survey(str(grouped(tmp_path, groups)))
    assert survey.rows == 0
    assert survey.types == {"text": pa.string(), "doc": pa.int32()}
    assert survey.checkpoints.shape == (0, 4)


# --- types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type_",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
def test_every_kind_of_text_column_reads_as_text(tmp_path: Path, type_: pa.DataType) -> None:
    values = ["one", "zwei", None, "", "one", "七 👍"]
    column = pa.array(values, pa.string())
    if pa.types.is_dictionary(type_):
        encoded = column.dictionary_encode()
        column = pa.DictionaryArray.from_arrays(
            encoded.indices.cast(type_.index_type), encoded.dictionary.cast(type_.value_type)
        )
    else:
        column = column.cast(type_)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": column, "doc": column, "tag": column}), path, row_group_size=2)
    columns = Columns("text", "doc", ("tag",), pa.string(), (pa.string(),))
    for (offset, count), rows in zip(
        [(0, 6), (1, 4), (0, 2)], read(path, columns, [(0, 6), (1, 4), (0, 2)]), strict=True
    ):
        expected = values[offset : offset + count]
        assert rows.texts == expected
        assert ids_of(rows).equals(pa.array(expected, pa.string()))
        assert rows.keep[0].equals(pa.array(expected, pa.string()))
        assert set(rows.bad) == {i for i, value in enumerate(expected) if value is None}


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()], ids=str)
def test_text_that_is_not_utf8_loses_its_own_row_only(tmp_path: Path, type_: pa.DataType) -> None:
    path = tmp_path / "x.parquet"
    column = strings([b"good", b"\xff\xfe", None, "spät".encode(), "spät".encode("latin-1")], type_)
    pq.write_table(pa.table({"text": column}), path)
    rows = read_all(path)
    assert rows.texts == ["good", None, None, "spät", None]
    assert set(rows.bad) == {1, 4}
    assert all("UTF-8" in reason for reason in rows.bad.values())


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()], ids=str)
def test_an_id_or_kept_value_that_is_not_utf8_loses_its_own_row_only(tmp_path: Path, type_: pa.DataType) -> None:
    path = tmp_path / "x.parquet"
    doc, tag = strings([b"1", b"\xff\xfe", b"3"], type_), strings([b"x", b"y", b"\xff"], type_)
    pq.write_table(pa.table({"text": ["a", "b", "c"], "doc": doc, "tag": tag}), path)
    columns = Columns("text", "doc", ("tag",), pa.string(), (pa.string(),))
    rows = read_all(path, columns)
    assert sorted(rows.bad) == [1, 2]
    assert ids_of(rows).to_pylist() == ["1", None, "3"]
    assert rows.keep[0].to_pylist() == ["x", "y", None]
    assert "'doc'" in rows.bad[1]
    assert "'tag'" in rows.bad[2]


def test_null_ids_are_bad_rows_and_the_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "doc": pa.array([7, None, 9], pa.uint64())}), path)
    rows = read_all(path, Columns("text", "doc", (), pa.uint64(), ()))
    assert ids_of(rows).to_pylist() == [7, None, 9]
    assert list(rows.bad) == [1]
    assert "'doc'" in rows.bad[1]
    assert rows.texts == ["a", "b", "c"]


def test_a_text_column_of_nothing_but_nulls(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.nulls(3)}), path)
    assert read_all(path).texts == [None, None, None]


def test_kept_columns_of_any_type_come_through(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(
        {
            "text": ["a", "b", "c"],
            "list": pa.array([[1, 2], None, []], pa.list_(pa.int16())),
            "struct": pa.array([{"text": "inner", "n": 1}, None, {"text": None, "n": 3}]),
            "when": pa.array([1, 2, None], pa.timestamp("us", "UTC")),
            "raw": pa.array([b"\xff", b"", None]),
            "half": pa.array(np.array([1, 2, 3], np.float16)),
            "fixed": pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32(), 2)),
        }
    )
    pq.write_table(table, path, row_group_size=2)
    names = tuple(table.column_names[1:])
    types = FORMAT.survey(str(path)).types
    rows = read_all(path, Columns("text", None, names, pa.int64(), tuple(types[name] for name in names)))
    assert [column.to_pylist() for column in rows.keep] == [table[name].to_pylist() for name in names]
    assert [column.type for column in rows.keep] == [types[name] for name in names]
    assert rows.ids is None


def test_names_with_dots_are_not_paths_into_structs(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"a": [{"b": "inner"}], "a.b": ["outer"], "b": ["other"]})
    pq.write_table(table, path)
    rows = read_all(path, Columns("a.b", None, ("a",), pa.int64(), (table.schema.field("a").type,)))
    assert rows.texts == ["outer"]
    assert rows.keep[0].to_pylist() == [{"b": "inner"}]


# --- survey -----------------------------------------------------------------------------------------------------


def test_survey_says_rows_size_types_and_the_same_fingerprint_twice(tmp_path: Path) -> None:
    path = grouped(tmp_path, (3, 4))
    survey = FORMAT.survey(str(path))
    assert (survey.rows, survey.size) == (7, path.stat().st_size)
    assert survey.fingerprint == FORMAT.survey(str(path)).fingerprint
    copy = tmp_path / "elsewhere.parquet"
    copy.write_bytes(path.read_bytes())
    assert FORMAT.survey(str(copy)).fingerprint == survey.fingerprint


def test_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    prints = set()
    for texts in (["a", "b"], ["a", "c"], ["a", "b", "b"], ["a"]):
        pq.write_table(pa.table({"text": texts}), path)
        prints.add(FORMAT.survey(str(path)).fingerprint)
    assert len(prints) == 4


def test_a_changed_text_changes_the_fingerprint(tmp_path: Path) -> None:
    """Same sizes, same extremes: the footer is the same byte for byte."""
    path = tmp_path / "x.parquet"
    prints = set()
    for middle in ("bb", "cc"):
        pq.write_table(pa.table({"text": ["aa", middle, "zz"]}), path)
        prints.add(FORMAT.survey(str(path)).fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello, world: not Parquet", b"PAR1" + bytes(64) + b"PAR1"])
def test_a_file_that_is_not_parquet_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        FORMAT.survey(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_page_is_an_error_not_other_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [f"text {i} " * 20 for i in range(1000)]}), path, use_dictionary=False)
    reader = FORMAT.open(source(path), TEXT_ONLY)
    with path.open("rb+") as file:  # it is open already, so that no fingerprint tells
        file.seek(200)
        file.write(b"\xff" * 1000)
    with pytest.raises(OSError):
        reader.read(part(0, 1000))
    reader.close()


# --- a file that is not what was planned ------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [2, 7])
def test_a_file_that_lost_rows_since_the_plan_is_an_error_that_names_it(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["x"] * 10}), path)
    file = source(path)
    pq.write_table(pa.table({"text": ["x"] * 5}), path)
    with pytest.raises(UserError, match=r"x\.parquet"):
        open_source(file, TEXT_ONLY).read(part(offset, 10 - offset))


@pytest.mark.parametrize("content", ["gone column", "garbage", "same rows, other text"])
def test_a_file_that_is_another_one_since_the_plan_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["x"] * 10}), path)
    file = source(path)
    if content == "gone column":
        pq.write_table(pa.table({"body": ["x"] * 10}), path)
    elif content == "garbage":
        path.write_bytes(b"garbage " * 10)
    else:
        pq.write_table(pa.table({"text": ["completely different"] * 10}), path)
    with pytest.raises(UserError, match=r"x\.parquet changed"):
        open_source(file, TEXT_ONLY).read(part(0, 10))


def test_two_columns_of_one_name_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(UserError, match="'text'"):
        FORMAT.survey(str(path))


def test_damage_that_decodes_to_other_texts_is_found_where_pages_have_checksums(tmp_path: Path) -> None:
    """Most texts stand in a dictionary: a flipped bit in a place in it means another text."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {i * 7 % 1000}" for i in range(3000)]})
    pq.write_table(table, path, compression=None, write_page_checksum=True, write_statistics=False)
    content = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(0)
    content[chunk.data_page_offset + 200] ^= 1
    path.write_bytes(content)
    assert pq.read_table(path) != table, "it can still be read, as something else"
    with pytest.raises(OSError, match="CRC checksum"):
        read_all(path)

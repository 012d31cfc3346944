"""Arrow IPC, both formats: any parts in any order, only the columns needed, and no bytes that crash."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, ipc

from actors.corpus import FORMATS, arrow
from actors.errors import UserError
from actors.messages import Columns
from tests.actors.corpus.reading import TEXT_ONLY, plan_of, read_all, read_parts
from tests.examples import examples

WRITERS = {"file": ipc.new_file, "stream": ipc.new_stream}


def batches_of(sizes: Sequence[int]) -> list[pa.RecordBatch]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    schema = pa.schema([("n", pa.int32()), ("text", pa.string()), ("tag", pa.dictionary(pa.int8(), pa.string()))])
    return [
        pa.record_batch(
            [
                pa.array(range(start, start + size), pa.int32()),
                pa.array([f"text {i}" for i in range(start, start + size)]),
                pa.array([f"tag {i % 3}" for i in range(start, start + size)])
                .dictionary_encode()
                .cast(schema[2].type),
            ],
            schema=schema,
        )
        for start, size in zip(starts, sizes, strict=True)
    ]


def written(path: Path, kind: str, batches: Sequence[pa.RecordBatch], compression: str | None = None) -> Path:
    options = ipc.IpcWriteOptions(compression=compression, unify_dictionaries=kind == "file")
    schema = batches[0].schema
    with WRITERS[kind](path, schema, options=options) as writer:
        if kind == "file":
            writer.write_table(pa.Table.from_batches(batches, schema).unify_dictionaries())
        else:
            for batch in batches:
                writer.write_batch(batch)
    return path


@examples(80)
@given(
    kind=st.sampled_from(["file", "stream"]),
    compression=st.sampled_from([None, "zstd", "lz4"]),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    rows_per_part=st.integers(1, 12),
    data=st.data(),
)
def test_any_parts_in_any_order_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    compression: str | None,
    sizes: list[int],
    rows_per_part: int,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.arrow"
    plan = plan_of(written(path, kind, batches_of(sizes), compression), rows_per_part)
    assert plan.rows == sum(sizes)
    order = data.draw(st.permutations(range(plan.parts)))
    columns = Columns("text", "n", ("tag",), pa.int32(), (pa.string(),))
    for index, rows in zip(order, read_parts(plan, columns, order), strict=True):
        part = plan.part(index)
        expected = range(part.offset, part.offset + part.rows)
        assert rows.texts == [f"text {i}" for i in expected]
        assert rows.ids is not None
        assert rows.ids.to_pylist() == list(expected)
        assert rows.keep[0].to_pylist() == [f"tag {i % 3}" for i in expected]
        assert rows.bad == {}


def test_feather_is_the_file_format_and_the_old_one_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"]})
    feather.write_feather(table, tmp_path / "x.feather")
    assert read_all(tmp_path / "x.feather").texts == ["a", "b"]
    (tmp_path / "old.feather").write_bytes(b"FEA1" + bytes(60) + b"FEA1")
    with pytest.raises(UserError, match=r"old\.feather is not a readable Arrow file"):
        plan_of(tmp_path / "old.feather")


def test_only_the_columns_needed_are_read(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"] * 1000, "blob": [bytes(10_000)] * 1000})
    with ipc.new_file(
        tmp_path / "x.arrow", table.schema, options=ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(table)
    whole = table.nbytes
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        (rows,) = read_parts(plan_of(tmp_path / "x.arrow"), TEXT_ONLY)
    finally:
        pa.set_memory_pool(before)
    assert rows.texts == ["a"] * 1000
    assert pool.max_memory() < whole // 4


def test_a_forward_jump_in_a_file_takes_no_batch_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(written(tmp_path / "x.arrow", "file", batches_of([10] * 10)), 10)
    taken: list[int] = []
    whole = arrow._batches

    def note(reader: object, first: int) -> object:
        for number, batch in enumerate(whole(reader, first), first):
            taken.append(number)
            yield batch

    monkeypatch.setattr(arrow, "_batches", note)
    assert [rows.texts[0] for rows in read_parts(plan, order=[1, 2, 7, 8, 0])] == [
        f"text {i}" for i in (10, 20, 70, 80, 0)
    ]
    assert taken == [1, 2, 7, 8, 0]


def test_text_that_is_not_utf8_loses_its_own_row_only(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", None, "spät".encode()])
    for type_, values in ((pa.string(), raw), (pa.large_string(), raw.cast(pa.large_binary()))):
        text = pa.Array.from_buffers(type_, 4, values.buffers())
        path = written(tmp_path / "x.arrow", "stream", [pa.record_batch([text], names=["text"])])
        rows = read_all(path)
        assert rows.texts == ["good", None, None, "spät"]
        assert list(rows.bad) == [1]


@pytest.mark.parametrize("offsets", [[0, 1000, 2, 3], [0, -5, 2, 3], [0, 3, 1, 3]], ids=repr)
def test_offsets_that_point_elsewhere_are_an_error(tmp_path: Path, offsets: list[int]) -> None:
    buffers = [None, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(b"abc")]
    text = pa.Array.from_buffers(pa.string(), 3, buffers)
    path = written(tmp_path / "x.arrow", "stream", [pa.record_batch([text], names=["text"])])
    with pytest.raises(pa.ArrowInvalid):
        read_all(path)


def test_indices_that_point_elsewhere_are_an_error(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0, 99], pa.int8()), pa.array(["a", "b"]), safe=False)
    path = written(tmp_path / "x.arrow", "stream", [pa.record_batch([words], names=["text"])])
    with pytest.raises((pa.ArrowInvalid, pa.ArrowIndexError)):
        read_all(path)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_truncated_file_is_refused_or_ends_where_batches_end(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "x.arrow", kind, batches_of([5, 5]))
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        if kind == "file" and length >= 6:
            with pytest.raises(UserError, match=r"x\.arrow"):
                FORMATS["arrow"].survey(str(path))
        with suppress(UserError):
            assert FORMATS["arrow"].survey(str(path)).rows in (0, 5, 10)


def test_the_fingerprint_is_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(text: str) -> str:
        batch = pa.record_batch([pa.array(["aa", text, "zz"] * 1000)], names=["text"])
        return FORMATS["arrow"].survey(str(written(tmp_path / "x.arrow", "file", [batch]))).fingerprint

    assert fingerprint("bb") == fingerprint("bb") != fingerprint("cc")
    monkeypatch.setattr(arrow, "_SAMPLE_BYTES", 64)
    assert fingerprint("bb") == fingerprint("bb") != fingerprint("cc")

"""Lance: each part's rows are in the dataset once, whoever wrote, committed or was killed, in whatever order."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import UserError
from actors.messages import Columns
from actors.output.done import finished_parts, sweep
from actors.output.folder import REJECTS, REJECTS_PROPERTY
from actors.output.parts import Reject, part_schema, write_rejects
from actors.output.sinks import open_sink
from actors.output.sinks.lance import LanceSink
from actors.output.store import store_of
from tests.actors.output.test_folder import plan_of
from tests.examples import examples

DIM = 8
PLAN = plan_of(45, 25)  # 8 parts, of 10 rows and of 5
PARTS = [PLAN.part(index) for index in range(PLAN.parts)]
COLUMNS = Columns("text", "doc", ("year", "tags"), pa.string(), (pa.int32(), pa.list_(pa.string())))


def begun(out: Path, dtype: str = "float32") -> LanceSink:
    out.mkdir(exist_ok=True)
    sink = LanceSink(store_of(out))
    sink.begin(part_schema(COLUMNS, DIM, dtype))
    return sink


def write(sink: LanceSink, index: int, dtype: str = "float32", rejects: int = 0) -> np.ndarray[Any, Any]:
    part = PARTS[index]
    rows = np.arange(part.first_row, part.first_row + part.rows)[rejects:]
    vectors = np.random.default_rng(index).standard_normal((part.rows, DIM)).astype(dtype)[rejects:]
    sink.write(
        part.name,
        part_schema(COLUMNS, DIM, dtype),
        pa.array([f"doc {row}" for row in rows], pa.string()),
        vectors,
        [pa.array(rows, pa.int32()), pa.array([["a", None]] * len(rows), pa.list_(pa.string()))],
        {"rayembed.plan": "abc", REJECTS_PROPERTY: str(rejects)},
        "w",
    )
    return vectors


def years(out: Path) -> list[int]:
    """Those of all rows, as they lie in the dataset."""
    return lance.dataset(str(out / "vectors.lance")).to_table(columns=["year"])["year"].to_pylist()


def rows_of(*indexes: int) -> list[int]:
    return [row for i in indexes for row in range(PARTS[i].first_row, PARTS[i].first_row + PARTS[i].rows)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_committed_is_what_was_written(tmp_path: Path, dtype: str) -> None:
    sink = begun(tmp_path, dtype)
    vectors = np.concatenate([write(sink, index, dtype) for index in range(PLAN.parts)])
    assert years(tmp_path) == []
    sink.commit(PLAN)
    dataset = lance.dataset(str(tmp_path / "vectors.lance"))
    assert dataset.schema.equals(part_schema(COLUMNS, DIM, dtype))
    table = dataset.to_table()
    assert table["id"].to_pylist() == [f"doc {row}" for row in range(PLAN.rows)]
    assert table["tags"][0].as_py() == ["a", None]
    there = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)
    assert there.dtype == dtype
    np.testing.assert_array_equal(there, vectors)
    nearest = dataset.to_table(nearest={"column": "embedding", "q": vectors[7].astype(np.float32), "k": 1})
    assert nearest["id"].to_pylist() == ["doc 7"]


@examples(25)
@given(st.lists(st.integers(0, PLAN.parts) | st.just(-1), max_size=20))
def test_any_history_of_writers_and_committers(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    """A number is a part that is written, perhaps again; the others commit, -1 killed before it says so."""
    out = tmp_path_factory.mktemp("out")
    sink, written = begun(out), set()
    for step in steps:
        if 0 <= step < PLAN.parts:
            write(sink, step)
            written.add(step)
            continue
        mark = out / "_fragments" / "_committed.json"
        before = mark.read_bytes() if mark.exists() else None
        LanceSink(store_of(out)).commit(PLAN)
        assert sorted(years(out)) == rows_of(*sorted(written))
        if step < 0 and before:
            mark.write_bytes(before)
    assert finished_parts(out, PLAN, range(PLAN.parts), "lance").indexes.tolist() == sorted(written)
    begun(out).commit(PLAN)
    assert sorted(years(out)) == rows_of(*sorted(written))


def test_parts_go_in_by_the_plan(tmp_path: Path) -> None:
    sink = begun(tmp_path)
    for index in (6, 2, 0):
        write(sink, index)
    sink.commit(PLAN)
    assert years(tmp_path) == rows_of(0, 2, 6)
    write(sink, 1)
    sink.commit(PLAN)
    assert years(tmp_path) == rows_of(0, 2, 6, 1)


def test_two_that_commit_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = begun(tmp_path)
    for index in range(3):
        write(sink, index)
    other = LanceSink(store_of(tmp_path))
    add = LanceSink._add

    def preempted(self: LanceSink, dataset: Any, fragments: list[Any]) -> int:
        if self is sink and dataset.version == 1:
            other.commit(PLAN)
        return add(self, dataset, fragments)

    monkeypatch.setattr(LanceSink, "_add", preempted)
    sink.commit(PLAN)
    assert years(tmp_path) == rows_of(0, 1, 2)


def test_a_writer_killed_before_its_descriptor_leaves_nothing_that_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = begun(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("actors.output.sinks.lance.publish_text", killed)
        with pytest.raises(KeyboardInterrupt):
            write(sink, 0)
    assert len(list((tmp_path / "vectors.lance" / "data").iterdir())) == 1
    sink.commit(PLAN)
    assert (sink.names(), years(tmp_path)) == (set(), [])
    write(sink, 0)
    sink.commit(PLAN)
    assert years(tmp_path) == rows_of(0)


def test_rejects(tmp_path: Path) -> None:
    sink = begun(tmp_path)
    ids = pa.array([f"doc {row}" for row in range(10)])
    for index, rejects in ((0, 3), (1, 10), (2, 0)):
        write_rejects(
            store_of(tmp_path),
            PARTS[index].name,
            COLUMNS,
            ids,
            [Reject(row, "x", 1, "") for row in range(max(1, rejects))],
            "w",
        )
        write(sink, index, rejects=rejects)
    sink.commit(PLAN)
    assert years(tmp_path) == [*range(3, 10), *range(20, 30)]
    done = finished_parts(tmp_path, PLAN, range(PLAN.parts), "lance")
    assert (done.indexes.tolist(), done.rejects) == ([0, 1, 2], 13)
    sweep(tmp_path, everything=True, sink="lance")
    assert sorted(path.name for path in (tmp_path / REJECTS).iterdir()) == [PARTS[0].name, PARTS[1].name]
    with_none = sink.open(PARTS[1].name)
    assert (with_none.rows, with_none.read(["id"]).num_rows) == (0, 0)


def test_a_dataset_that_was_rewritten(tmp_path: Path) -> None:
    sink = begun(tmp_path)
    for index in range(3):
        write(sink, index)
    sink.commit(PLAN)
    lance.dataset(str(tmp_path / "vectors.lance")).optimize.compact_files()
    write(sink, 3)
    sink.commit(PLAN)
    assert sorted(years(tmp_path)) == rows_of(0, 1, 2, 3)
    for index in range(4, PLAN.parts):
        write(sink, index)
    sink.commit(PLAN)
    dataset = lance.dataset(str(tmp_path / "vectors.lance"))
    dataset.optimize.compact_files()
    dataset.cleanup_old_versions(timedelta(0), delete_unverified=True)
    begun(tmp_path).commit(PLAN)  # the same command again
    assert sorted(years(tmp_path)) == rows_of(*range(PLAN.parts))


def test_a_dataset_that_was_rewritten_and_cleaned_before_it_was_complete_is_refused(tmp_path: Path) -> None:
    sink = begun(tmp_path)
    for index in range(3):
        write(sink, index)
    sink.commit(PLAN)
    dataset = lance.dataset(str(tmp_path / "vectors.lance"))
    dataset.optimize.compact_files()
    dataset.cleanup_old_versions(timedelta(0), delete_unverified=True)
    with pytest.raises(UserError, match=r"vectors\.lance was cleaned by another program before it was complete"):
        sink.commit(PLAN)


def test_rows_of_another_program_are_refused(tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"id": [1]}), str(tmp_path / "vectors.lance"))
    with pytest.raises(UserError, match=r"vectors\.lance is there, and not of a run"):
        begun(tmp_path)


def test_an_uncommitted_part_cannot_be_opened_and_strange_rows_are_named(tmp_path: Path) -> None:
    sink = begun(tmp_path)
    write(sink, 0)
    sink.commit(PLAN)
    write(sink, 1)
    lance.write_dataset(
        lance.dataset(str(tmp_path / "vectors.lance")).to_table(limit=2),
        str(tmp_path / "vectors.lance"),
        mode="append",
    )
    look = LanceSink(store_of(tmp_path))
    assert look.open(PARTS[0].name).rows == 10
    with pytest.raises(OSError, match=r"vectors\.lance does not have it; run the same command again"):
        look.open(PARTS[1].name)
    (said,) = look.amiss({PARTS[0].name, PARTS[1].name})
    assert said.startswith("2 rows are of no part of this run")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(UserError, match=r"--sink lance needs a package .*rayembed\[lance\]"):
        open_sink("lance", tmp_path)


def test_a_descriptor_is_small_and_plain(tmp_path: Path) -> None:
    sink = begun(tmp_path)
    write(sink, 0)
    (path,) = (tmp_path / "_fragments").iterdir()
    assert path.name.startswith("part-00000-000000000000.")
    assert json.loads(path.read_bytes())["properties"]["rayembed.part"] == PARTS[0].name
    assert path.stat().st_size < 1000

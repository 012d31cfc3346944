"""Ids that stand more than once in an output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.messages import Columns
from jobs import verify_ids
from jobs.verify import in_words, verify
from jobs.verify_ids import find_repeat
from tests.jobs.outputs import NAMES, PLAN, STRINGS, build, complaint, names


def test_input_repeats_ids(tmp_path: Path) -> None:
    ids = pa.array([f"doc-{row % 27}" for row in range(29)])
    build(tmp_path, STRINGS, ids=ids)
    place = f"{NAMES[3]} row 7: id 'doc-0' is also in {NAMES[0]} row 0"
    line = f"{place}; so in the input, where 2 rows repeat an earlier id"
    assert complaint(tmp_path, unique_ids=True) == line
    found = verify(tmp_path)
    assert found.ok
    assert found.notes == (line,)
    assert f"note: {line}" in in_words(found)


def test_id_repeated_between_a_part_and_the_rejects_of_another(tmp_path: Path) -> None:
    ids = pa.array([f"doc-{0 if row == 12 else row}" for row in range(29)])
    build(tmp_path, STRINGS, ids=ids, rejected=[11, 12])
    assert complaint(tmp_path, unique_ids=True).startswith(
        f"_rejects/{NAMES[1]} row 1: id 'doc-0' is also in {NAMES[0]} row 0; so in the input, where 1 row "
    )
    assert verify(tmp_path).ok


def test_part_with_string_ids_copied_over_another(tmp_path: Path) -> None:
    build(tmp_path, STRINGS, ids=names())
    (tmp_path / NAMES[1]).write_bytes((tmp_path / NAMES[0]).read_bytes())
    assert complaint(tmp_path) == f"{NAMES[1]}: a copy of '{NAMES[0]}'"


def test_rejects_with_string_ids_copied_over_others(tmp_path: Path) -> None:
    build(tmp_path, STRINGS, ids=names(), rejected=[1, 9])
    rejects = tmp_path / "_rejects"
    (rejects / NAMES[1]).write_bytes((rejects / NAMES[0]).read_bytes())
    assert complaint(tmp_path) == f"_rejects/{NAMES[1]}: a copy of '{NAMES[0]}'"


@pytest.mark.parametrize("type_", [pa.uuid(), pa.binary(16)])
def test_uuids(tmp_path: Path, type_: pa.DataType) -> None:
    ids = pa.array([UUID(int=row % 28).bytes for row in range(PLAN.rows)], pa.binary(16)).cast(type_)
    build(tmp_path, Columns("text", "doc", (), type_, ()), ids=ids, rejected=[3, 9])
    assert verify(tmp_path).ok
    line = complaint(tmp_path, unique_ids=True)
    assert f"id '{UUID(int=0)}' is also in {NAMES[0]} row 0" in line
    assert pq.read_schema(tmp_path / NAMES[0]).field("id").type == type_
    assert pq.read_schema(tmp_path / "_rejects" / NAMES[0]).field("id").type == type_


def scan_of(*files: pa.Array) -> Callable[[], Iterator[tuple[str, pa.Array]]]:
    return lambda: iter([(f"f{number}", ids) for number, ids in enumerate(files)])


@pytest.mark.parametrize("type_", [pa.int64(), pa.uint64(), pa.int8(), pa.string(), pa.large_string()])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_repeats_are_found_in_any_number_of_passes(type_: pa.DataType, at_once: int) -> None:
    def ids(*numbers: int | None) -> pa.Array:
        return pa.array(numbers, pa.int64()).cast(type_)

    once = scan_of(ids(*range(0, 60)), ids(None, None), ids(*range(60, 100)))
    assert find_repeat(once, 102, at_once) is None
    twice = scan_of(ids(*range(0, 60)), ids(None, 100, 41, 7), ids(*range(55, 100)))
    repeat = find_repeat(twice, 109, at_once)
    assert repeat
    assert (str(repeat.value), repeat.count) == ("41", 7)
    assert (repeat.first_file, repeat.first_row, repeat.file, repeat.row) == ("f0", 41, "f1", 2)


def test_ids_that_are_not_utf8() -> None:
    raw = pa.array([b"a\xff", b"b\xff", b"a\xff"])
    ids = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    repeat = find_repeat(scan_of(ids), 3)
    assert repeat
    assert (repeat.value, repeat.row, repeat.count) == ("a\\xff", 2, 1)


def test_equal_hashes_of_different_ids_are_no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_ids, "_hashes", lambda ids: np.zeros(len(ids), np.uint64))
    assert find_repeat(scan_of(names(9)), 9) is None


def test_very_many_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_ids, "_CANDIDATES", 10)
    repeat = find_repeat(scan_of(names(500), names(500)), 1000)
    assert repeat
    assert (repeat.first_file, repeat.file, repeat.count) == ("f0", "f1", 500)
    assert repeat.first_row == repeat.row

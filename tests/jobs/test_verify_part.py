"""Outputs with one damaged part: what `verify` says of each damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.messages import Columns
from actors.output.folder import REJECTS_PROPERTY
from actors.output.parts import PLAN_PROPERTY
from jobs.verify import in_words, verify
from tests.jobs.outputs import DIM, NAMES, STRINGS, build, complaint, names


@pytest.mark.parametrize(
    "type_",
    [
        pa.list_(pa.int64()),
        pa.timestamp("s", "UTC"),
        pa.date64(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.struct([("a", pa.list_(pa.float64()))]),
        pa.map_(pa.string(), pa.int8()),
        pa.large_string(),
        pa.decimal128(5, 2),
    ],
)
def test_kept_columns_of_types_that_parquet_stores_otherwise(tmp_path: Path, type_: pa.DataType) -> None:
    build(tmp_path, Columns("text", None, ("k",), pa.int64(), (type_,)), keep=[pa.nulls(29, type_)])
    assert verify(tmp_path).ok, in_words(verify(tmp_path))


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -9, -500])
def test_truncated(tmp_path: Path, keep: int) -> None:
    output = build(tmp_path, STRINGS, ids=names())
    whole = (output.out / NAMES[2]).read_bytes()
    (tmp_path / NAMES[2]).write_bytes(whole[:keep])
    assert complaint(tmp_path).startswith(f"{NAMES[2]}: cannot be read (")
    assert "to mend a damaged part (1 of them): delete it and the file" in in_words(verify(tmp_path))


def test_damage_anywhere_never_raises(tmp_path: Path) -> None:
    output = build(
        tmp_path, Columns("text", "doc", ("k",), pa.string(), (pa.string(),)), ids=names(), keep=[names()]
    )
    path = tmp_path / NAMES[0]
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(100):
        bytes_ = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 6)):
            bytes_[place] = random.integers(256)
        path.write_bytes(bytes_)
        found = verify(output.out)
        assert {problem.file for problem in found.problems} <= {NAMES[0]}
    path.write_bytes(random.bytes(5000))
    assert not verify(output.out).ok


def test_folder_in_the_place_of_a_part(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / NAMES[0]).unlink()
    (tmp_path / NAMES[0]).mkdir()
    assert complaint(tmp_path).startswith(f"{NAMES[0]}: cannot be read (")


def test_foreign_parquet(tmp_path: Path) -> None:
    build(tmp_path)
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / NAMES[3])
    assert complaint(tmp_path) == f"{NAMES[3]}: not a part that rayembed wrote (no rayembed.plan in its footer)"


def test_part_of_another_run(tmp_path: Path) -> None:
    output, other = build(tmp_path / "one"), build(tmp_path / "other", model="another")
    (output.out / NAMES[3]).write_bytes((other.out / NAMES[3]).read_bytes())
    line = complaint(output.out)
    assert line.startswith(f"{NAMES[3]}: of another run")
    assert output.properties[PLAN_PROPERTY] in line
    assert other.properties[PLAN_PROPERTY] in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns("k"), "its columns are id, embedding; planned are id, embedding, k"),
        (lambda table: table.append_column("z", table["k"]), "its columns are id, embedding, k, z; planned are"),
        (
            lambda table: table.set_column(0, "id", table["id"].cast(pa.int32())),
            "column id is int32; planned is int64",
        ),
        (lambda table: table.set_column(2, "k", pa.nulls(8, pa.int8())), "column k is int8; planned is string"),
        (
            lambda table: table.set_column(1, "embedding", table["embedding"].cast(pa.list_(pa.float16(), DIM))),
            "planned is fixed_size_list<item: float>[4]",
        ),
        (
            lambda table: table.set_column(1, "embedding", pa.array([[1.0] * 5] * 8, pa.list_(pa.float32(), 5))),
            "planned is fixed_size_list<item: float>[4]",
        ),
        (
            lambda table: table.set_column(1, "embedding", table["embedding"].cast(pa.list_(pa.float32()))),
            "planned is fixed_size_list<item: float>[4]",
        ),
    ],
)
def test_other_schema(tmp_path: Path, change: Callable[[pa.Table], pa.Table], words: str) -> None:
    output = build(tmp_path, Columns("text", None, ("k",), pa.int64(), (pa.string(),)), keep=[names()])
    output.rewrite(1, change(output.table(1)))
    line = complaint(tmp_path)
    assert line.startswith(f"{NAMES[1]}: ")
    assert words in line


def test_reject_file_missing(tmp_path: Path) -> None:
    build(tmp_path, rejected=[2, 3])
    (tmp_path / "_rejects" / NAMES[0]).unlink()
    assert complaint(tmp_path) == f"{NAMES[0]}: 2 rejects by its footer, but no file _rejects/{NAMES[0]}"


@pytest.mark.parametrize(("rejected", "there"), [([2, 3], [2]), ([2, 3], [2, 3, 4]), ([], [5])])
def test_reject_file_with_another_count(tmp_path: Path, rejected: list[int], there: list[int]) -> None:
    output = build(tmp_path, rejected=rejected)
    output.rejects(0, there)
    line = complaint(tmp_path)
    assert line == f"_rejects/{NAMES[0]}: {len(there)} rejects; the footer of its part says {len(rejected)}"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"garbage" * 50])
def test_reject_file_unreadable(tmp_path: Path, content: bytes) -> None:
    build(tmp_path, rejected=[2])
    (tmp_path / "_rejects" / NAMES[0]).write_bytes(content)
    assert complaint(tmp_path).startswith(f"_rejects/{NAMES[0]}: cannot be read (")


def test_reject_file_that_is_something_else(tmp_path: Path) -> None:
    build(tmp_path, rejected=[2])
    pq.write_table(pa.table({"id": [2]}), tmp_path / "_rejects" / NAMES[0])
    assert complaint(tmp_path).startswith(f"_rejects/{NAMES[0]}: its columns are not ['id', 'reason'")


def test_footer_without_count_of_rejects(tmp_path: Path) -> None:
    output = build(tmp_path)
    output.rewrite(0, output.table(0), **{REJECTS_PROPERTY: "many"})
    assert complaint(tmp_path) == f"{NAMES[0]}: no count of rejects in its footer (rayembed.rejects)"


def test_rows_too_few(tmp_path: Path) -> None:
    output = build(tmp_path, STRINGS, ids=names())
    output.rewrite(1, output.table(1).slice(0, 6))
    assert complaint(tmp_path) == f"{NAMES[1]}: 6 rows and 0 rejects, of 8 planned"


def test_row_dropped_is_named(tmp_path: Path) -> None:
    output = build(tmp_path)
    table = output.table(1)
    output.rewrite(1, pa.concat_tables([table.slice(0, 3), table.slice(4)]))
    assert [str(problem) for problem in verify(tmp_path).problems] == [
        f"{NAMES[1]}: 7 rows and 0 rejects, of 8 planned",
        f"{NAMES[1]} row 3: its id is 12, due is 11",
    ]


def test_rows_too_many(tmp_path: Path) -> None:
    output = build(tmp_path)
    output.rewrite(1, pa.concat_tables([output.table(1), output.table(2)]))
    assert complaint(tmp_path) == f"{NAMES[1]}: 12 rows and 0 rejects, of 8 planned"


def test_ids_out_of_order(tmp_path: Path) -> None:
    build(tmp_path).set_ids(3, [20, 21, 23, 22, 24, 25, 26, 27])
    assert complaint(tmp_path) == f"{NAMES[3]} row 2: its id is 23, due is 22"


def test_part_copied_over_another(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / NAMES[1]).write_bytes((tmp_path / NAMES[0]).read_bytes())
    assert complaint(tmp_path) == f"{NAMES[1]}: a copy of '{NAMES[0]}'"


def test_rejected_id_is_embedded_too(tmp_path: Path) -> None:
    build(tmp_path, rejected=[9]).set_ids(1, [8, 9, 11, 12, 13, 14, 15])
    assert complaint(tmp_path) == f"{NAMES[1]} row 1: its id is 9, due is 10"


def test_rejects_beyond_the_part(tmp_path: Path) -> None:
    build(tmp_path, rejected=[9, 10]).rejects(1, [9, 17])
    assert complaint(tmp_path) == f"_rejects/{NAMES[1]} row 1: id 17 is not of this part, which is 8 to 15"


def test_rejected_twice(tmp_path: Path) -> None:
    build(tmp_path, rejected=[9, 10]).rejects(1, [9, 9])
    assert complaint(tmp_path) == f"_rejects/{NAMES[1]} row 1: id 9 is rejected twice"


def test_null_id_among_rejected_positions(tmp_path: Path) -> None:
    build(tmp_path, rejected=[9, 10]).rejects(1, [0, 1], pa.array([9, None], pa.int64()))
    assert complaint(tmp_path) == f"_rejects/{NAMES[1]} row 1: its id is null"


def test_null_id_in_a_part(tmp_path: Path) -> None:
    build(tmp_path, STRINGS, ids=names()).set_ids(0, ["a", "b", None, "c", "d", None, "e", "f"])
    assert complaint(tmp_path) == f"{NAMES[0]} row 2: its id is null (2 such rows)"


def test_null_ids_among_rejects_of_an_id_column_are_right(tmp_path: Path) -> None:
    ids = pa.array([None if row in (1, 2, 9) else f"doc-{row}" for row in range(29)])
    build(tmp_path, STRINGS, ids=ids, rejected=[1, 2, 9])
    assert verify(tmp_path).ok, in_words(verify(tmp_path))


def test_id_embedded_and_rejected(tmp_path: Path) -> None:
    ids = pa.array(["again" if row in (3, 6) else f"doc-{row}" for row in range(29)])
    build(tmp_path, STRINGS, ids=ids, rejected=[3])
    assert f"{NAMES[0]} row 5: id 'again' is embedded and rejected (1 such row" in in_words(verify(tmp_path))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "not finite"), (-np.inf, "not finite"), (0.0, "all zeros")])
def test_bad_vectors(tmp_path: Path, dtype: str, value: float, words: str) -> None:
    output = build(tmp_path, dtype=dtype)

    def spoil(vectors: np.ndarray[Any, Any]) -> None:
        vectors[5, slice(None) if value == 0 else 3] = value
        vectors[7] = value

    output.set_vectors(1, spoil)
    found = verify(tmp_path)
    assert complaint(tmp_path) == f"{NAMES[1]} row 5: the embedding of id 13 is {words} (2 bad rows)"
    assert found.norms
    assert found.norms.vectors == 27
    assert found.norms.highest < 1.01


def test_very_long_and_very_short_vectors_are_right(tmp_path: Path) -> None:
    output = build(tmp_path)

    def stretch(vectors: np.ndarray[Any, Any]) -> None:
        vectors[2] = 3e38
        vectors[3] = [0, 0, 0, 1e-44]

    output.set_vectors(1, stretch)
    found = verify(tmp_path)
    assert found.ok, in_words(found)
    assert found.norms
    assert found.norms.highest == pytest.approx(6e38)
    assert 0 < found.norms.lowest < 1e-43


@pytest.mark.parametrize(
    ("row", "words"), [(None, "no embedding (1 such row"), ([1.0, None, 1.0, 1.0], "a null in its embedding")]
)
def test_nulls_in_vectors(tmp_path: Path, row: list[float | None] | None, words: str) -> None:
    output = build(tmp_path)
    vectors = [*output.table(0)["embedding"].to_pylist()[:6], row, [1.0] * DIM]
    embedding = pa.array(vectors, pa.list_(pa.float32(), DIM))
    output.rewrite(0, output.table(0).set_column(1, "embedding", embedding))
    line = complaint(tmp_path)
    assert line.startswith(f"{NAMES[0]} row 6: ")
    assert words in line

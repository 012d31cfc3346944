"""A part between reading and writing: every row ends as a vector or as a reject, under its own id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.corpus import Rows
from actors.embedder.open_part import OpenPart
from actors.messages import Columns, JobSpec, Orders, Part, PartDone
from actors.output.done import sweep

DIM = 2
NAME = "part-00003-000000000040.parquet"
POSITIONS = Columns("text", None, (), pa.int64(), ())


def spec_of(out: Path, columns: Columns = POSITIONS, dtype: str = "float32") -> JobSpec:
    return JobSpec(str(out), (), columns, DIM, dtype, {"rayembed.plan": "abc"}, Orders({}), 1.0)


def part_of(rows: int) -> Part:
    return Part(index=7, name=NAME, offset=40, first_row=1040, rows=rows)


def rows_of(texts: list[str | None], bad: dict[int, str] | None = None) -> Rows:
    return Rows(texts=texts, ids=None, keep=(), bad=bad or {})


def opened(texts: list[str | None], bad: dict[int, str] | None = None, dtype: str = "float32") -> OpenPart:
    return OpenPart(part_of(len(texts)), rows_of(texts, bad), DIM, dtype)


def rows(*places: int) -> npt.NDArray[np.int64]:
    return np.array(places, np.int64)


def vectors(*firsts: float) -> npt.NDArray[np.float32]:
    """Vectors (x, -x)."""
    return np.array([[x, -x] for x in firsts], np.float32).reshape(-1, DIM)


def written(out: Path) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = pq.read_table(out / NAME).to_pydict()
    table["embedding"] = [vector[0] for vector in table["embedding"]]
    return table


def rejected(out: Path) -> list[dict[str, Any]]:
    path = out / "_rejects" / NAME
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []
    return found


# --- what can be sent -------------------------------------------------------------------------------------------


def test_rows_without_text_and_bad_rows_are_rejects_from_the_start(tmp_path: Path) -> None:
    part = opened(["a", None, "", "d", "e", None], bad={4: "not JSON", 5: "the id is null"})
    assert part.sendable.tolist() == [0, 3]
    assert part.texts(part.sendable) == ["a", "d"]
    assert not part.complete
    part.place(rows(3, 0), vectors(3, 0))
    assert part.complete
    assert part.write(spec_of(tmp_path), "w") == PartDone(7, 6, 4)
    assert written(tmp_path) == {"id": [1040, 1043], "embedding": [0, 3]}
    assert [(each["id"], each["reason"], each["status"], each["detail"]) for each in rejected(tmp_path)] == [
        (1041, "null_text", None, "the row has no text"),
        (1042, "empty_text", None, "the text is empty"),
        (1044, "bad_row", None, "not JSON"),
        (1045, "bad_row", None, "the id is null"),
    ]


def test_blanks_are_text() -> None:
    assert opened([" ", "\n", "\0"]).sendable.tolist() == [0, 1, 2]


@pytest.mark.parametrize("texts", [[None], ["", None, ""]], ids=repr)
def test_a_part_with_nothing_to_send_is_complete_at_once(tmp_path: Path, texts: list[str | None]) -> None:
    part = opened(texts)
    assert part.complete
    assert part.write(spec_of(tmp_path), "w") == PartDone(7, len(texts), len(texts))
    assert written(tmp_path) == {"id": [], "embedding": []}
    assert len(rejected(tmp_path)) == len(texts)
    schema = pq.read_schema(tmp_path / NAME)
    assert schema.field("embedding").type.list_size == DIM


# --- what comes back --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(["good", "null", "empty", "bad", "refused"]), min_size=1, max_size=25),
    with_ids=st.booleans(),
    data=st.data(),
)
def test_every_row_ends_in_the_part_or_in_the_rejects(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], with_ids: bool, data: st.DataObject
) -> None:
    """In whatever order and grouping the answers come."""
    out = tmp_path_factory.mktemp("out")
    ids = [f"id {i}" if with_ids else 1040 + i for i in range(len(kinds))]
    columns = Columns("text", "doc" if with_ids else None, ("tag",), pa.array(ids).type, (pa.int32(),))
    texts = [{"null": None, "empty": ""}.get(kind, f"text {i}") for i, kind in enumerate(kinds)]
    bad = {i: "why" for i, kind in enumerate(kinds) if kind == "bad"}
    keep = (pa.array(range(len(kinds)), pa.int32()),)
    part = OpenPart(
        part_of(len(kinds)), Rows(texts, pa.array(ids) if with_ids else None, keep, bad), DIM, "float32"
    )
    sendable = [i for i, kind in enumerate(kinds) if kind in ("good", "refused")]
    assert part.sendable.tolist() == sendable
    waiting = data.draw(st.permutations(sendable))
    while waiting:
        assert not part.complete
        size = data.draw(st.integers(1, len(waiting)))
        answer, waiting = waiting[:size], waiting[size:]
        good = [i for i in answer if kinds[i] == "good"]
        refused = [i for i in answer if kinds[i] == "refused"]
        assert part.texts(rows(*good)) == [texts[i] for i in good]
        part.place(rows(*good), vectors(*good))
        part.refuse(rows(*refused), "too_long", 413, "no")
    assert part.complete
    done = part.write(spec_of(out, columns), "w")
    good = [i for i, kind in enumerate(kinds) if kind == "good"]
    others = [i for i in range(len(kinds)) if i not in good]
    assert written(out) == {"id": [ids[i] for i in good], "embedding": good, "tag": good}
    assert [each["id"] for each in rejected(out)] == [ids[i] for i in others]
    reasons = {"null": "null_text", "empty": "empty_text", "bad": "bad_row", "refused": "too_long"}
    assert [each["reason"] for each in rejected(out)] == [reasons[kinds[i]] for i in others]
    assert done == PartDone(7, len(kinds), len(others))
    footer = pq.read_metadata(out / NAME).metadata
    assert footer[b"rayembed.rejects"] == str(len(others)).encode()
    assert footer[b"rayembed.plan"] == b"abc"


def test_without_rejects_no_reject_file_is_written(tmp_path: Path) -> None:
    part = opened(["a"])
    part.place(rows(0), vectors(1))
    part.write(spec_of(tmp_path), "w")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_half_floats_are_rounded_once_from_float32(tmp_path: Path) -> None:
    part = opened(["a", "b"], dtype="float16")
    part.place(rows(0, 1), vectors(1 / 3, 1000.3))
    part.write(spec_of(tmp_path, dtype="float16"), "w")
    table = pq.read_table(tmp_path / NAME)
    assert table.schema.field("embedding").type.value_type == pa.float16()
    expected = vectors(1 / 3, 1000.3).astype(np.float16)
    assert table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).tolist() == (
        expected.reshape(-1).tolist()
    )


def test_null_ids_are_kept_in_the_rejects(tmp_path: Path) -> None:
    columns = Columns("text", "doc", (), pa.uint8(), ())
    ids = pa.array([1, None, 3], pa.uint8())
    part = OpenPart(part_of(3), Rows(["a", "b", "c"], ids, (), {1: "null id"}), DIM, "float32")
    part.place(rows(0, 2), vectors(0, 2))
    part.write(spec_of(tmp_path, columns), "w")
    assert written(tmp_path)["id"] == [1, 3]
    assert [each["id"] for each in rejected(tmp_path)] == [None]
    assert pq.read_schema(tmp_path / NAME).field("id").type == pa.uint8()


def test_the_rejects_are_there_before_the_part(tmp_path: Path) -> None:
    part = opened(["a", None])
    part.place(rows(0), vectors(1))
    (tmp_path / NAME).mkdir()  # nothing can be renamed over a folder: the part cannot appear
    with pytest.raises(OSError):
        part.write(spec_of(tmp_path), "w")
    assert len(rejected(tmp_path)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "_rejects"}, "and no hidden file stays"


def test_rejects_of_an_attempt_that_came_to_no_part_do_not_stay_beside_its_rows(tmp_path: Path) -> None:
    """Killed between rejects and part; when the part is done again, the server takes every row."""
    first = opened(["a", "b"])
    first.place(rows(0), vectors(1))
    first.refuse(rows(1), "server_error", 500, "down")
    (tmp_path / NAME).mkdir()  # stands for the kill: the part cannot appear
    with pytest.raises(OSError):
        first.write(spec_of(tmp_path), "first")
    (tmp_path / NAME).rmdir()
    second = opened(["a", "b"])
    second.place(rows(0, 1), vectors(1, 2))
    second.write(spec_of(tmp_path), "second")
    sweep(tmp_path, everything=True)  # as at the end of a job
    assert written(tmp_path) == {"id": [1040, 1041], "embedding": [1, 2]}
    assert rejected(tmp_path) == []


def test_writing_a_part_again_changes_nothing(tmp_path: Path) -> None:
    for writer in ("first", "second"):
        part = opened(["a", None, "c"])
        part.place(rows(0, 2), vectors(1, 3))
        assert part.write(spec_of(tmp_path), writer) == PartDone(7, 3, 1)
    assert written(tmp_path) == {"id": [1040, 1042], "embedding": [1, 3]}
    assert len(rejected(tmp_path)) == 1
    assert len(list(tmp_path.rglob("*.parquet"))) == 2


@pytest.mark.parametrize("first", ["refused", "whole"])
def test_two_holders_that_disagree_leave_each_id_once(tmp_path: Path, first: str) -> None:
    """A second lease at the tail: the server refused one of them a row that it embedded for the other."""
    parts = {"refused": opened(["a", "b"]), "whole": opened(["a", "b"])}
    parts["refused"].place(rows(0), vectors(1))
    parts["refused"].refuse(rows(1), "server_error", 500, "down")
    parts["whole"].place(rows(0, 1), vectors(1, 2))
    done = parts.pop(first).write(spec_of(tmp_path), "a")
    again = parts.popitem()[1].write(spec_of(tmp_path), "b")
    assert sorted([*written(tmp_path)["id"], *(each["id"] for each in rejected(tmp_path))]) == [1040, 1041]
    assert done == again == PartDone(7, 2, 1 if first == "refused" else 0), "both say what is there"


def test_values_beyond_half_floats_are_rejects(tmp_path: Path) -> None:
    part = opened(["a", "b", "c", "d"], dtype="float16")
    part.place(rows(3, 1), np.array([[1, -70000], [65504, -65504]], np.float32))
    part.place(rows(0, 2), np.array([[np.inf, 0], [1, 1]], np.float32))
    assert part.complete
    assert part.write(spec_of(tmp_path, dtype="float16"), "w") == PartDone(7, 4, 2)
    assert written(tmp_path) == {"id": [1041, 1042], "embedding": [65504, 1]}
    assert [(each["id"], each["reason"]) for each in rejected(tmp_path)] == [
        (1040, "beyond_float16"),
        (1043, "beyond_float16"),
    ]

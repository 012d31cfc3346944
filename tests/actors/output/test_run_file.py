"""`_run.json`: the same command goes on, another one is refused with the difference named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.errors import USAGE, UserError
from actors.messages import Columns, SourceFile
from actors.output.run_file import begin_run, fingerprint, identity, plan_of, read_run
from actors.queue.plan import Plan

FILES = (
    SourceFile("/here/a.parquet", "a.parquet", "parquet", 100, 5000, "0000000a"),
    SourceFile("/here/b/ü.jsonl", "b/ü.jsonl", "jsonl", 50, 2000, "0000000b"),
)
NEW = SourceFile("/here/c.parquet", "c.parquet", "parquet", 10, 100, "0000000c")
PLAN = Plan(FILES, 10, 1000)
COLUMNS = Columns("text", "doc", ("tag", "n"), pa.string(), (pa.string(), pa.list_(pa.int32())))


def run_of(plan: Plan = PLAN, columns: Columns = COLUMNS, **options: Any) -> dict[str, Any]:
    return identity(plan, columns, **{"model": "m", "dim": 4, "dtype": "float32", **options})


def changed(**fields: Any) -> Plan:
    """The plan with the first file changed."""
    return replace(PLAN, files=(replace(FILES[0], **fields), FILES[1]))


def refusal(out: Path, run: dict[str, Any]) -> str:
    """What a person is told who starts `run` where the usual one is; leaves the folder as it was."""
    begin_run(out, run_of())
    before = (out / "_run.json").read_bytes()
    with pytest.raises(UserError) as caught:
        begin_run(out, run)
    assert (out / "_run.json").read_bytes() == before
    assert caught.value.exit_code == USAGE
    message = str(caught.value)
    assert "\n" not in message
    assert str(out) in message
    assert "choose another -o" in message
    return message


# --- the same run -----------------------------------------------------------------------------------------------


def test_a_run_begins_and_goes_on(tmp_path: Path) -> None:
    begin_run(tmp_path, run_of())
    first = (tmp_path / "_run.json").read_bytes()
    (tmp_path / "part-00000-000000000000.parquet").touch()
    begin_run(tmp_path, run_of())
    assert (tmp_path / "_run.json").read_bytes() == first
    assert read_run(tmp_path) == run_of()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_where_the_input_lies_makes_no_difference(tmp_path: Path) -> None:
    begin_run(tmp_path, run_of())
    moved = tuple(replace(file, path=f"/there/{file.name}") for file in FILES)
    begin_run(tmp_path, run_of(replace(PLAN, files=moved)))


def test_the_run_file_says_what_the_interface_promises() -> None:
    run = run_of()
    assert {"input", "model", "dim", "dtype", "normalisation", "prompt", "plan"} <= run.keys()
    assert json.loads(json.dumps(run)) == run, "what is written reads as equal"


def test_a_folder_without_a_run_file_holds_no_run(tmp_path: Path) -> None:
    assert read_run(tmp_path) is None


# --- another run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "difference"),
    [
        (run_of(model="other"), "model: m there, other now"),
        (run_of(dim=8), "dim: 4 there, 8 now"),
        (run_of(dtype="float16"), "dtype: float32 there, float16 now"),
        (run_of(columns=replace(COLUMNS, text="body")), "columns.text: text there, body now"),
        (run_of(columns=replace(COLUMNS, id="key")), "columns.id: doc there, key now"),
        (run_of(columns=replace(COLUMNS, id_type=pa.int64())), "columns.id_type: string there, int64 now"),
        (run_of(replace(PLAN, rows_per_batch=70)), "plan.rows_per_batch: 1000 there, 70 now"),
        (run_of(changed(fingerprint="0000000c")), "input file a.parquet: its content changed"),
        (run_of(changed(size=5001)), "input file a.parquet: its content changed"),
        (run_of(changed(rows=130, size=6000, fingerprint="0000000d")), "input file a.parquet: its content changed"),
        (run_of(replace(PLAN, files=(*FILES, NEW))), "input file c.parquet: is new"),
        (run_of(replace(PLAN, files=FILES[1:])), "input file a.parquet: was there, is not now"),
        (run_of(replace(PLAN, limit=70)), "plan.limit: None there, 70 now"),
        (run_of(replace(PLAN, rows_per_part=20)), "plan.rows_per_part: 10 there, 20 now"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_run_is_refused_and_the_difference_named(
    tmp_path: Path, run: dict[str, Any], difference: str
) -> None:
    assert f"({difference})" in refusal(tmp_path, run)
    assert fingerprint(run) != fingerprint(run_of())


@pytest.mark.parametrize("keep", [(), ("tag",), ("tag", "x"), ("tag", "n", "x"), ("n", "tag")], ids=str)
def test_other_kept_columns_are_refused(tmp_path: Path, keep: tuple[str, ...]) -> None:
    """Also the same ones in another order: they would give parts of two schemas."""
    types = dict(zip(COLUMNS.keep, COLUMNS.keep_types, strict=True))
    columns = replace(COLUMNS, keep=keep, keep_types=tuple(types.get(name, pa.string()) for name in keep))
    assert "columns.keep" in refusal(tmp_path, run_of(columns=columns))
    assert fingerprint(run_of(columns=columns)) != fingerprint(run_of())


def test_the_fingerprint_is_16_hexadecimal_digits_and_stays() -> None:
    assert fingerprint(run_of()) == fingerprint(run_of())
    assert len(fingerprint(run_of())) == 16
    assert int(fingerprint(run_of()), 16) >= 0
    assert fingerprint(json.loads(json.dumps(run_of()))) == fingerprint(run_of())


def test_parts_without_a_run_file_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "part-00000-000000000000.parquet").touch()
    with pytest.raises(UserError, match=r"holds part files but no _run\.json"):
        begin_run(tmp_path, run_of())
    assert not (tmp_path / "_run.json").exists()


def test_other_files_in_the_folder_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".part-00000-000000000000.parquet.abc.tmp").touch()
    begin_run(tmp_path, run_of())
    assert read_run(tmp_path) == run_of()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"version": 999}', b"\xff\xfe"], ids=repr
)
def test_a_broken_run_file_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "_run.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        begin_run(tmp_path, run_of())
    assert "_run.json cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "_run.json").read_bytes() == content


# --- the plan back from the file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan", [PLAN, replace(PLAN, rows_per_batch=37), replace(PLAN, limit=43)], ids=["", "cuts", "limit"]
)
def test_the_plan_of_a_run_has_the_same_parts(tmp_path: Path, plan: Plan) -> None:
    begin_run(tmp_path, run_of(plan))
    run = read_run(tmp_path)
    assert run is not None
    again = plan_of(run)
    assert [again.part(index) for index in range(again.parts)] == [plan.part(index) for index in range(plan.parts)]
    assert run_of(again) == run_of(plan)


@pytest.mark.parametrize("junk", [None, -1, 1.5, "x", [], {}, [[]], ["a", 1, 2, "c"]], ids=repr)
@pytest.mark.parametrize(
    "place", ["plan", "input", "plan.rows_per_part", "plan.rows_per_batch", "plan.rows", "plan.parts"]
)
def test_a_damaged_plan_is_named_in_one_line(place: str, junk: object) -> None:
    run = run_of()
    *above, last = place.split(".")
    inner = run[above[0]] if above else run
    inner[last] = junk
    with pytest.raises(UserError, match=r"_run\.json holds no plan") as caught:
        plan_of(run)
    assert "\n" not in str(caught.value)

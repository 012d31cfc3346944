"""Whole outputs, unfinished ones, and files in them that should not be there: what `verify` says."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from actors.errors import UserError
from actors.messages import Columns, SourceFile
from actors.output.run_file import begin_run, identity, plan_of
from actors.queue.plan import Plan
from jobs.verify import in_words, verify
from tests.jobs.outputs import DIM, NAMES, PLAN, POSITIONS, STRINGS, build, complaint, names


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        (POSITIONS, None),
        (STRINGS, names()),
        (
            Columns("text", "n", (), pa.uint64(), ()),
            pa.array([(1 << 64) - 1 - row for row in range(29)], pa.uint64()),
        ),
    ],
)
@pytest.mark.parametrize("rejected", [(), (0, 9, 15, 28)])  # row 28 is a whole part
def test_whole_output(
    tmp_path: Path, dtype: str, columns: Columns, ids: pa.Array, rejected: tuple[int, ...]
) -> None:
    build(tmp_path, columns, dtype, ids, rejected=rejected)
    found = verify(tmp_path)
    assert found.ok, in_words(found)
    assert (found.parts, found.parts_planned, found.rows_planned) == (5, 5, 29)
    assert (found.rows, found.rejects) == (29 - len(rejected), len(rejected))
    assert found.norms
    assert found.norms.vectors == found.rows
    assert 0.99 < found.norms.lowest <= found.norms.mean <= found.norms.highest < 1.01
    words = in_words(found)
    assert "\n" not in words
    assert words.startswith(f"OK: {found.rows} rows embedded and {len(rejected)} rejected of 29, in 5 of 5 parts")
    assert f"4 x {dtype}, norms " in words


def test_every_row_rejected(tmp_path: Path) -> None:
    build(tmp_path, rejected=range(29))
    found = verify(tmp_path)
    assert found.ok, in_words(found)
    assert (found.rows, found.rejects, found.norms) == (0, 29, None)


def test_plan_comes_back_from_the_run() -> None:
    plan = Plan(PLAN.files, rows_per_part=3, rows_per_batch=10, limit=24)
    again = plan_of(json.loads(json.dumps(identity(plan, POSITIONS, "m", DIM, "float32"))))
    assert (again.rows, again.parts, again.limit) == (24, plan.parts, 24)
    assert [again.part(index) for index in range(again.parts)] == [plan.part(index) for index in range(plan.parts)]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere"):
        verify(tmp_path / "nowhere")


def test_unfinished(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "_summary.json").unlink()
    (tmp_path / NAMES[1]).unlink()
    (tmp_path / NAMES[4]).unlink()
    (tmp_path / f".{NAMES[4]}.w.tmp").write_bytes(b"half")
    line = complaint(tmp_path)
    assert line.startswith(
        f"{NAMES[1]}: the first of 2 missing parts of 5, with 9 rows; run the same command again"
    )
    words = in_words(verify(tmp_path))
    assert "20 rows embedded and 0 rejected of 29, in 3 of 5 parts" in words
    assert "note: no _summary.json" in words
    assert "note: 1 hidden file of a writer" in words
    assert "to mend" not in words


def test_just_begun(tmp_path: Path) -> None:
    begin_run(tmp_path, identity(PLAN, POSITIONS, "m", DIM, "float32"))
    assert "the first of 5 missing parts of 5, with 29 rows" in complaint(tmp_path)


def test_rejects_of_a_part_that_is_still_missing_are_no_problem_of_their_own(tmp_path: Path) -> None:
    build(tmp_path, rejected=[3])
    (tmp_path / "_summary.json").unlink()
    (tmp_path / NAMES[0]).unlink()
    assert complaint(tmp_path).startswith(f"{NAMES[0]}: the first of 1 missing part of 5, with 8 rows")


def test_left_over_files_are_only_mentioned(tmp_path: Path) -> None:
    build(tmp_path, rejected=[3])
    (tmp_path / ".part-00000-000000000000.parquet.w.tmp").write_bytes(b"half")
    (tmp_path / "_rejects" / ".part-00000-000000000000.parquet.w.tmp").write_bytes(b"half")
    (tmp_path / "_telemetry").mkdir()
    (tmp_path / "report.html").write_text("<html>")
    found = verify(tmp_path)
    assert found.ok
    assert "note: 2 hidden files of a writer" in in_words(found)


@pytest.mark.parametrize(
    "name", ["part-00000-000000000004.parquet", "part-00009-000000000000.parquet", "mine.parquet"]
)
def test_part_of_another_plan(tmp_path: Path, name: str) -> None:
    build(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / NAMES[0]).read_bytes())
    assert complaint(tmp_path).startswith(f"{name}: not a part of this run")


def test_rejects_of_another_plan(tmp_path: Path) -> None:
    build(tmp_path, rejected=[0])
    stray = tmp_path / "_rejects" / "part-00007-000000000000.parquet"
    stray.write_bytes((tmp_path / "_rejects" / NAMES[0]).read_bytes())
    assert complaint(tmp_path).startswith(
        "_rejects/part-00007-000000000000.parquet: rejects of no part of this run"
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"version": 1}', b'{"version": 2}', b"[" * 100_000]
)
def test_garbage_run_file(tmp_path: Path, content: bytes) -> None:
    build(tmp_path)
    (tmp_path / "_run.json").write_bytes(content)
    assert complaint(tmp_path).startswith("_run.json: cannot be read (")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan",), None),
        (("plan", "rows_per_part"), 0),
        (("plan", "rows_per_batch"), -5),
        (("plan", "rows_per_batch"), 1.5),
        (("plan", "limit"), "x"),
        (("plan", "parts"), 6),
        (("input",), [["a", 20]]),
        (("input",), [["a", "20", 1, "f"]]),
        (("columns",), []),
        (("columns", "id_type"), "float"),
        (("columns", "id_type"), "nonsense"),
        (("dim",), 0),
        (("dim",), "4"),
        (("dtype",), ["float32"]),
    ],
)
def test_run_file_that_makes_no_sense(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    build(tmp_path)
    run = json.loads((tmp_path / "_run.json").read_text())
    tree = run
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value
    (tmp_path / "_run.json").write_text(json.dumps(run))
    assert complaint(tmp_path).startswith("_run.json: cannot be read (")


def test_run_file_changed_by_hand(tmp_path: Path) -> None:
    build(tmp_path)
    run = json.loads((tmp_path / "_run.json").read_text())
    (tmp_path / "_run.json").write_text(json.dumps({**run, "model": "another"}))
    found = verify(tmp_path)
    assert [problem.file for problem in found.problems] == NAMES
    assert all("of another run" in problem.what for problem in found.problems)


def test_run_file_missing(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "_run.json").unlink()
    assert complaint(tmp_path) == "_run.json: missing, beside 5 parts: not the output of a run"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_garbage_summary(tmp_path: Path, content: bytes) -> None:
    build(tmp_path)
    (tmp_path / "_summary.json").write_bytes(content)
    assert complaint(tmp_path).startswith("_summary.json: cannot be read (")


def test_summary_disagrees(tmp_path: Path) -> None:
    build(tmp_path, rejected=[4])
    (tmp_path / "_summary.json").write_text('{"complete": true, "rows_total": 28}')
    assert complaint(tmp_path) == "_summary.json: says complete, with rows_total 28; here are 29"


def test_part_lost_after_the_end(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / NAMES[0]).unlink()
    words = in_words(verify(tmp_path)).split("\n")
    assert words[1].startswith(f"{NAMES[0]}: the first of 1 missing part of 5, with 8 rows; run the same command")
    assert words[2:] == ["_summary.json: says complete, with rows_total 29; here are 21"]


def test_summary_of_an_earlier_try_says_nothing(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "_summary.json").write_text('{"complete": false, "rows_total": 28}')
    assert verify(tmp_path).ok


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    plan = Plan((SourceFile("a", "a", "jsonl", 50, 1, "f"),), rows_per_part=2, rows_per_batch=50)
    run = identity(plan, POSITIONS, "m", DIM, "float32")
    begin_run(tmp_path, run)
    for index in range(plan.parts):
        (tmp_path / plan.part(index).name).write_bytes(b"")
    found = verify(tmp_path)
    assert len(found.problems) == 25
    lines = in_words(found).split("\n")
    assert sum(line.startswith("part-") for line in lines) == 20
    assert lines[21] == "… and 5 more"
    assert lines[22].startswith("to mend a damaged part (25 of them)")


def test_lines_stay_lines_whatever_a_name_holds(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "two\nlines.parquet").write_bytes(b"")
    assert complaint(tmp_path).startswith("two lines.parquet: not a part")

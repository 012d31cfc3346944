"""The output folder: files appear whole or not at all, and what stands there is what is done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.messages import Columns, SourceFile
from actors.output.done import finished_parts, sweep
from actors.output.folder import REJECTS, REJECTS_PROPERTY, part_names
from actors.output.local_store import publish, publish_file
from actors.output.parts import Reject, part_schema, write_part, write_rejects
from actors.output.store import store_of
from actors.queue.plan import Plan

COLUMNS = Columns("text", None, (), pa.int64(), ())


def plan_of(*rows: int, rows_per_part: int = 10, rows_per_batch: int = 1000) -> Plan:
    files = tuple(SourceFile(f"/in/{i}", f"{i}", "parquet", n, n, "00") for i, n in enumerate(rows))
    return Plan(files, rows_per_part, rows_per_batch)


def write(out: Path, name: str, rejects: int) -> None:
    """A part of one row that stands for that row and so many rejects."""
    properties = {REJECTS_PROPERTY: f"{rejects}"}
    vectors = np.zeros((1, 2), np.float32)
    write_part(store_of(out), name, part_schema(COLUMNS, 2, "float32"), pa.array([0]), vectors, [], properties, "w")


def reject(out: Path, name: str, rows: int) -> None:
    ids = pa.array(range(rows), pa.int64())
    write_rejects(
        store_of(out), name, COLUMNS, ids, [Reject(row, "empty_text", None, "") for row in range(rows)], "w"
    )


# --- publish ----------------------------------------------------------------------------------------------------


def test_what_is_published_is_there_under_its_name_only(tmp_path: Path) -> None:
    publish_file(tmp_path / "x", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"content"


def test_until_it_is_whole_only_a_hidden_file_is_there(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(hidden: Path) -> None:
        hidden.write_bytes(b"half")
        seen.extend(path.name for path in tmp_path.iterdir())
        assert hidden.parent == tmp_path, "a rename must not cross file systems"

    publish(tmp_path / "part-00000-000000000000.parquet", write, "me")
    assert len(seen) == 1
    assert seen[0].startswith(".")
    assert not seen[0].endswith(".parquet")


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("bug"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, error: BaseException, before: bytes | None
) -> None:
    path = tmp_path / "x"
    if before is not None:
        path.write_bytes(before)

    def write(hidden: Path) -> None:
        hidden.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        publish(path, write)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == (
        {} if before is None else {"x": before}
    )


def test_a_write_that_makes_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "x", lambda hidden: None)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_name_do_not_meet_and_the_last_wins(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def inner(hidden: Path) -> None:
        hidden.write_text("first to end")

    def outer(hidden: Path) -> None:
        hidden.write_text("first to begin")
        publish(path, inner, "b")
        assert path.read_text() == "first to end"

    publish(path, outer, "a")
    assert path.read_text() == "first to begin"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_content_is_on_the_disk_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, rename = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        order.append("folder" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else "content")
        sync(descriptor)

    def note_rename(hidden: Path, target: Path) -> Path:
        order.append("rename")
        return rename(hidden, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    publish_file(tmp_path / "x", "ü")
    assert order == ["content", "rename", "folder"]
    assert (tmp_path / "x").read_bytes() == "ü".encode()


# --- what is there ----------------------------------------------------------------------------------------------


def test_only_parts_are_parts(tmp_path: Path) -> None:
    parts = {
        "part-00000-000000000000.parquet",
        "part-123456-000000000010.parquet",
        "part-00001-1234567890123.parquet",
    }
    others = {
        ".part-00000-000000000010.parquet.abc.tmp",
        "_run.json",
        "_summary.json",
        "report.html",
        "part-0-0.parquet",
        "part-00000-000000000020.parquet.bak",
        "xpart-00000-000000000030.parquet",
        "part-00000-000000000040.parquet\n",
    }
    for name in parts | others:
        (tmp_path / name).touch()
    (tmp_path / REJECTS).mkdir()
    (tmp_path / REJECTS / "part-00000-000000000050.parquet").touch()
    assert part_names(tmp_path) == parts


def test_every_name_of_a_plan_is_recognised(tmp_path: Path) -> None:
    plan = plan_of(*[25, 0] * 5, rows_per_batch=17)
    names = {plan.part(index).name for index in range(plan.parts)}
    for name in names:
        (tmp_path / name).touch()
    assert part_names(tmp_path) == names
    assert finished_parts(str(tmp_path), plan, range(plan.parts)).indexes.tolist() == list(range(plan.parts))


def test_an_empty_folder_has_no_finished_parts(tmp_path: Path) -> None:
    plan = plan_of(100)
    finished = finished_parts(str(tmp_path), plan, range(plan.parts))
    assert finished.indexes.tolist() == []
    assert finished.indexes.dtype == "int64"
    assert finished.rejects == 0


def test_finished_parts_are_those_wanted_and_there_with_their_rejects(tmp_path: Path) -> None:
    plan = plan_of(100, 30)
    for index, rejects in ((0, 1), (3, 2), (4, 0), (7, 0), (12, 8)):
        write(tmp_path, plan.part(index).name, rejects)
    write(tmp_path, "part-00077-000000000000.parquet", 0)  # of no plan of ours
    for index, rejects in ((0, 1), (3, 2), (5, 4), (12, 8)):  # part 5 was not written: a crash came before
        reject(tmp_path, plan.part(index).name, rejects)
    (tmp_path / REJECTS / f".{plan.part(4).name}.abc.tmp").write_bytes(b"half a file")
    everything = finished_parts(str(tmp_path), plan, range(plan.parts))
    assert (everything.indexes.tolist(), everything.rejects) == ([0, 3, 4, 7, 12], 11)
    some = finished_parts(str(tmp_path), plan, range(1, 8))
    assert (some.indexes.tolist(), some.rejects) == ([3, 4, 7], 2)


# --- sweeping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [True, False])
def test_sweeping_removes_what_killed_writers_left(tmp_path: Path, everything: bool) -> None:
    (tmp_path / REJECTS).mkdir()
    kept = [
        "part-00000-000000000000.parquet",
        "_run.json",
        ".not-ours",
        f"{REJECTS}/part-00000-000000000000.parquet",
    ]
    old = [".part-00000-000000000010.parquet.abc.tmp", f"{REJECTS}/.part-00000-000000000010.parquet.abc.tmp"]
    fresh = [".part-00000-000000000020.parquet.abc.tmp", f"{REJECTS}/.part-00000-000000000020.parquet.abc.tmp"]
    for name in (*kept, *old, *fresh):
        (tmp_path / name).touch()
    for name in (*kept, *old):
        os.utime(tmp_path / name, (1e9, 1e9))
    sweep(tmp_path, everything)
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {*kept, *([] if everything else fresh)}


def test_sweeping_a_folder_without_rejects(tmp_path: Path) -> None:
    (tmp_path / ".x.abc.tmp").touch()
    sweep(tmp_path, everything=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanishes_during_the_sweep_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a killed job renames its file between the listing and the look at it."""
    hidden = tmp_path / ".part-00000-000000000000.parquet.abc.tmp"
    hidden.touch()
    look = Path.stat

    def vanish(path: Path, **options: bool) -> os.stat_result:
        if path == hidden:
            hidden.unlink(missing_ok=True)
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", vanish)
    sweep(tmp_path, everything=False)


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems open a folder but answer EINVAL to its fsync; the rename has happened by then."""
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    publish_file(tmp_path / "x", "content")

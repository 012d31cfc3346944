"""Two holders of one lease that write the same part at the same time."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.corpus import Rows
from actors.embedder.open_part import OpenPart
from actors.messages import Columns, JobSpec, Orders, Part
from actors.output.sinks import parquet as module

NAME = "part-00000-000000000000.parquet"
TEXT_ONLY = Columns("text", None, (), pa.int64(), ())


@pytest.mark.parametrize("b_ends", ["before a", "in an error"])
def test_two_holders_that_write_at_the_same_time_lose_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, b_ends: str
) -> None:
    """a was refused row 1, b was not. b begins to write while a is between its rejects and its part."""
    spec = JobSpec(str(tmp_path), (), TEXT_ONLY, 2, "float32", {}, Orders({}), 1.0)
    a, b = (OpenPart(Part(0, NAME, 0, 0, 2), Rows(["a", "b"], None, ()), 2, "float32") for _ in "ab")
    a.place(np.array([0]), np.zeros((1, 2), np.float32))
    a.refuse(np.array([1]), "server_error", 500, "down")
    b.place(np.array([0, 1]), np.zeros((2, 2), np.float32))
    write_part_ = module.write_part
    began: list[str] = []

    def interleaved(*args: object) -> None:
        began.append("x")
        if len(began) == 1:  # a, its rejects written
            with contextlib.suppress(OSError):
                b.write(spec, "b")
        elif b_ends == "in an error":
            raise OSError(28, "No space left on device")
        write_part_(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_part", interleaved)
    a.write(spec, "a")
    rejects = tmp_path / "_rejects" / NAME
    rejected = pq.read_table(rejects)["id"].to_pylist() if rejects.exists() else []
    assert sorted(pq.read_table(tmp_path / NAME)["id"].to_pylist() + rejected) == [0, 1]


def two(out: Path) -> tuple[JobSpec, OpenPart, OpenPart]:
    """a was refused row 1, b row 0."""
    spec = JobSpec(str(out), (), TEXT_ONLY, 2, "float32", {}, Orders({}), 1.0)
    a, b = (OpenPart(Part(0, NAME, 0, 0, 2), Rows(["a", "b"], None, ()), 2, "float32") for _ in "ab")
    for part, good in ((a, 0), (b, 1)):
        part.place(np.array([good]), np.ones((1, 2), np.float32))
        part.refuse(np.array([1 - good]), "server_error", 500, "down")
    return spec, a, b


def assert_agree(out: Path) -> None:
    there, rejected = (pq.read_table(folder / NAME)["id"].to_pylist() for folder in (out, out / "_rejects"))
    assert sorted(there + rejected) == [0, 1]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedder.open_part.random.random", lambda: 0.001)


@pytest.mark.usefixtures("at_once")
def test_two_that_were_refused_different_rows_do_not_leave_the_rejects_of_one_beside_the_part_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b writes all of it while a is between its rejects and its part."""
    spec, a, b = two(tmp_path)
    write_part_ = module.write_part
    began: list[str] = []

    def interleaved(*args: object) -> None:
        began.append("x")
        if len(began) == 1:
            b.write(spec, "b")
        write_part_(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_part", interleaved)
    a.write(spec, "a")
    assert_agree(tmp_path)
    assert len(began) == 3, "a has written twice"


def test_two_that_write_as_it_comes_agree_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for different times, since that is what keeps them from doing the same again and again."""
    chance = random.Random(1)
    monkeypatch.setattr("actors.embedder.open_part.random.random", lambda: 0.02 * chance.random())
    monkeypatch.setattr(module.ParquetSink, "written_meanwhile", lambda *_: None)  # as when they look at once
    for number in range(30):
        spec, a, b = two(tmp_path / str(number))
        Path(spec.out).mkdir()
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(each.write, spec, name) for each, name in ((a, "a"), (b, "b"))]:
                done.result()
        assert_agree(Path(spec.out))

"""Two holders of one lease that write the same part at the same time."""

from __future__ import annotations

import contextlib
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

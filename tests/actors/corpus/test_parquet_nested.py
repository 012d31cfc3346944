"""Parquet: kept values below the top level that are not UTF-8."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus import FORMATS
from actors.messages import Columns, Part, SourceFile
from actors.output.parts import part_schema, write_part
from actors.output.store import store_of

NAME = "part-00000-000000000000.parquet"


def test_a_kept_list_with_a_string_that_is_not_utf8_loses_its_own_row_only(tmp_path: Path) -> None:
    words = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"]).buffers())
    tags = pa.ListArray.from_arrays([0, 1, 2], words)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "tags": tags}), path)
    survey = FORMATS["parquet"].survey(str(path))
    file = SourceFile(str(path), path.name, "parquet", survey.rows, survey.size, survey.fingerprint)
    type_ = survey.types["tags"]
    columns = Columns("text", None, ("tags",), pa.int64(), (type_,))
    rows = FORMATS["parquet"].open(file, columns).read(Part(0, NAME, 0, 0, 2))
    out = tmp_path / NAME
    schema, vectors = part_schema(columns, 2, "float32"), np.zeros((2, 2), np.float32)
    write_part(store_of(tmp_path), NAME, schema, pa.array([0, 1]), vectors, rows.keep, {}, "w")
    assert duckdb.sql(f"select count(tags[1]) from '{out}'").fetchall() == [(1,)]
    assert list(rows.bad) == [1]

"""Small corpora for the tests of whole runs, and a look at what came out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tests.servers.vectors import vectors_of


def texts(count: int, seed: int = 0) -> list[str]:
    """Distinct texts of many lengths, some not ASCII."""
    random = np.random.default_rng(seed)
    words = ["the", "a", "cat", "hat", "Straße", "naïve", "東京", "vector", "GPU", "queue", "lease", "part", "row"]
    lengths = random.integers(1, 60, count)
    return [f"{i} " + " ".join(random.choice(words, length)) for i, length in enumerate(lengths)]


def write_parquet(
    path: Path, rows: list[str | None], ids: list[str] | None = None, **columns: list[object]
) -> Path:
    data: dict[str, list[object]] = {"text": list(rows), **({"doc": list(ids)} if ids else {}), **columns}
    pq.write_table(pa.table(data), path, row_group_size=700)
    return path


def write_jsonl(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": row, "n": i}) + "\n" for i, row in enumerate(rows)))
    return path


def read_out(out: Path) -> pa.Table:
    """All parts, as any reader of Parquet folders sees them, by id."""
    return ds.dataset(out, format="parquet").to_table().sort_by("id")


def matrix(table: pa.Table) -> npt.NDArray[np.float32]:
    column = table.column("embedding").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def assert_right(out: Path, expected: list[str], dim: int = 32) -> None:
    """Each row is there once, under its position, with its own vector."""
    table = read_out(out)
    assert table.column("id").to_pylist() == list(range(len(expected)))
    np.testing.assert_array_equal(matrix(table), vectors_of(expected, dim))

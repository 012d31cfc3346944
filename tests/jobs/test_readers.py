"""The output as others read it: while the job runs, after a SIGKILL, and when it is complete."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.report import write_report
from tests.conftest import eventually
from tests.jobs.corpora import texts, write_parquet
from tests.jobs.embedded import embed
from tests.jobs.report.recorded import summary
from tests.servers.vectors import vectors_of


def pyarrow_dataset(out: Path) -> list[dict[str, Any]]:
    return ds.dataset(out, format="parquet").to_table().to_pylist()


def pyarrow_parquet(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out).to_pylist()


def by_duckdb(out: Path) -> list[dict[str, Any]]:
    return duckdb.connect().sql(f"from '{out}/*.parquet'").to_arrow_table().to_pylist()


def by_polars(out: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(f"{out}/*.parquet").to_dicts()


def by_datasets(out: Path) -> list[dict[str, Any]]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    cache = out.parent / "datasets" / uuid4().hex  # it knows files by their names
    found = datasets.load_dataset("parquet", data_files=f"{out}/*.parquet", split="train", cache_dir=str(cache))
    return list(found)


def by_sparks_rules(out: Path) -> list[dict[str, Any]]:
    """All files but those it takes as hidden; the first by path gives the schema, as is Spark's default."""
    files = sorted(_seen_by_spark(out))
    schema = pq.read_schema(files[0])
    rows: list[dict[str, Any]] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                assert file.schema_arrow.equals(schema)
                rows += file.read_row_group(group).to_pylist()
    return rows


def _seen_by_spark(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        hidden = path.name.startswith("_") and "=" not in path.name
        if hidden or path.name.startswith(".") or path.name.endswith("._COPYING_"):
            continue
        if path.is_dir():
            yield from _seen_by_spark(path)
        else:
            yield path


READERS: list[Callable[[Path], list[dict[str, Any]]]] = [
    pyarrow_dataset,
    pyarrow_parquet,
    by_duckdb,
    by_polars,
    by_datasets,
    by_sparks_rules,
]


def assert_all_read(out: Path, rows: list[str], *, complete: bool) -> None:
    """Each reader finds rows that are right, each once; when the output is `complete`, all of them."""
    number = {f"doc-{i}": i for i in range(len(rows))}
    vectors = vectors_of(rows, 32)
    for read in READERS:
        found = read(out)
        which = [number[row["id"]] for row in found]
        assert len(set(which)) == len(which) > 0, read.__name__
        assert not complete or len(which) == len(rows), read.__name__
        assert [row["n"] for row in found] == which, read.__name__
        np.testing.assert_array_equal(np.array([row["embedding"] for row in found], np.float32), vectors[which])


def test_during_a_run_after_a_sigkill_and_at_the_end(rayembed, server, tmp_path):
    rows = texts(12_000)
    corpus = write_parquet(
        tmp_path / "c.parquet", list(rows), [f"doc-{i}" for i in range(12_000)], n=[*range(12_000)]
    )
    command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--id-column", "doc", "--keep", "n")
    out = tmp_path / "out"
    server.behave(texts_per_s=5000, hold_after=9000)
    first = rayembed(*command, "--concurrency", 4, "--batch-size", 64, own_ray=True)
    eventually(lambda: len(list(out.glob("part-*.parquet"))) >= 3)
    assert_all_read(out, rows, complete=False)
    first.send(signal.SIGKILL)
    first.wait()
    assert_all_read(out, rows, complete=False)
    server.behave(texts_per_s=0, hold_after=0)
    second = rayembed(*command)
    assert second.wait() == 0, second.err
    assert (out / "report.html").exists()
    assert_all_read(out, rows, complete=True)


@pytest.mark.parametrize(
    "type_", [pa.int16(), pa.uint64(), pa.string(), pa.large_string(), pa.binary(16), pa.uuid()]
)
def test_ids_keep_their_type(server, tmp_path, type_):
    numbers = [3, 1, 2, *range(4, 700)]
    ids = pa.array([UUID(int=i).bytes for i in numbers], pa.binary(16))
    if type_ not in (pa.binary(16), pa.uuid()):
        ids = pa.array(numbers)
    table = pa.table({"doc": ids.cast(type_), "text": texts(len(numbers))})
    pq.write_table(table, tmp_path / "c.parquet")
    out = tmp_path / "out"
    embed(server.url, [tmp_path / "c.parquet"], out, input={"id_column": "doc"})
    write_report(out, summary())
    expected = table["doc"].to_pylist()
    read = ds.dataset(out, format="parquet").to_table()
    # one type for text, since files of one corpus may differ in that
    assert read.schema.field("id").type == (pa.string() if type_ == pa.large_string() else type_)
    assert read["id"].to_pylist() == pq.read_table(out)["id"].to_pylist() == expected
    assert [row["id"] for row in by_sparks_rules(out)] == expected
    found = duckdb.connect().execute(f"select id from '{out}/*.parquet'").fetchall()
    assert [row[0] for row in found] == expected, "a UUID is one there too"
    as_bytes = [each.bytes if isinstance(each, UUID) else each for each in expected]
    assert pl.read_parquet(f"{out}/*.parquet")["id"].to_list() == as_bytes
    if type_ != pa.uuid():  # "does not have a datasets dtype equivalent", whoever wrote the file
        assert [row["id"] for row in by_datasets(out)] == expected

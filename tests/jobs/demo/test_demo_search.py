from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UserError
from jobs.demo.search import SAMPLE_QUERIES, Hit, nearest
from jobs.serve.backends import load_backend
from jobs.serve.backends.base import encode


def write_part(path: Path, ids: list[Any], vectors: np.ndarray) -> None:
    """As the job lays parts out, with a kept column."""
    path.parent.mkdir(exist_ok=True)
    element = pa.float16() if vectors.dtype == np.float16 else pa.float32()
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), element), vectors.shape[1])
    pq.write_table(pa.table({"id": ids, "embedding": rows, "kept": ids}), path, row_group_size=7000)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_exact_over_many_parts_and_batches(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    random = np.random.default_rng(7)
    vectors = (random.normal(size=(45_000, 8)) * random.uniform(0.1, 9, size=(45_000, 1))).astype(dtype)
    for part, start in enumerate((0, 20_000, 40_000)):
        rows = vectors[start : start + 20_000]
        write_part(tmp_path / f"part-{part:05}.parquet", list(range(start, start + len(rows))), rows)
    query = random.normal(size=8)
    exact = vectors.astype(np.float64)
    cosines = exact @ query / np.linalg.norm(exact, axis=1) / np.linalg.norm(query)
    hits = nearest(tmp_path, query, 25)
    assert [hit.id for hit in hits] == np.argsort(-cosines)[:25].tolist()
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1][:25], atol=1e-5)


def test_only_finished_parts_are_read(tmp_path: Path) -> None:
    row = np.array([[1, 0]], np.float32)
    for name in (
        "part-1.parquet",
        ".part-2.parquet",
        "_part-3.parquet",
        "_rejects/part-4.parquet",
        ".part-5.parquet.tmp",
        "other.parquet",
    ):
        write_part(tmp_path / name, [name], row)
    assert nearest(tmp_path, [2, 0], 10) == [Hit("part-1.parquet", 1.0)]


def test_ties_keep_their_order_and_zeros_score_zero(tmp_path: Path) -> None:
    write_part(tmp_path / "part-0.parquet", ["a", "zero", "b"], np.array([[0, 1], [0, 0], [0, 3]], np.float32))
    write_part(tmp_path / "part-1.parquet", ["c", "away"], np.array([[0, 2], [0, -1]], np.float32))
    assert nearest(tmp_path, [0, 5], 9) == [Hit("a", 1), Hit("b", 1), Hit("c", 1), Hit("zero", 0), Hit("away", -1)]


def test_refusals_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=tmp_path.name):
        nearest(tmp_path, [1, 0], 1)
    write_part(tmp_path / "part-0.parquet", ["a"], np.ones((1, 3), np.float32))
    with pytest.raises(UserError, match=r"3 elements.* 2"):
        nearest(tmp_path, [1, 0], 1)


def test_sample_queries_find_what_they_mean(tmp_path: Path, corpus: Path) -> None:
    table = pq.read_table(corpus)
    model = load_backend("wordllama")
    vectors = encode(model, table["text"].to_pylist()).vectors
    write_part(tmp_path / "part-0.parquet", table["id"].to_pylist(), vectors)
    waiting, weekday, timer = (
        [hit.id for hit in nearest(tmp_path, encode(model, [query]).vectors[0], 5)] for query in SAMPLE_QUERIES
    )
    assert {"subprocess.Popen.wait", "multiprocessing.process.BaseProcess.join"} < set(waiting)
    assert weekday[0] == "calendar.weekday"
    assert "asyncio.base_events.BaseEventLoop.call_later" in timer

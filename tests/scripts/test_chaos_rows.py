"""The soak's own count of rows: it must see what it looks for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from chaos_rows import DIM, POISON, Found, Rows

from tests.servers.gpu.answers import vectors_of

Vectors = npt.NDArray[np.float32]
COUNT = 30_000


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows(COUNT, seed=5)


def _write(out: Path, rows: Rows, ids: list[int], rejects: list[int], change: Callable[[Vectors], object]) -> None:
    vectors = vectors_of([rows.texts[i] or "" for i in ids], DIM)
    change(vectors)
    embedding = pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIM)
    (out / "_rejects").mkdir(parents=True)
    half = len(ids) // 2
    table = pa.table({"id": pa.array(ids, pa.int64()), "embedding": embedding})
    pq.write_table(table[:half], out / "part-1.parquet")
    pq.write_table(table[half:], out / "part-2.parquet")
    pq.write_table(pa.table({"id": pa.array(rejects, pa.int64())}), out / "_rejects/part-1.parquet")


def _ids(rows: Rows) -> tuple[list[int], list[int]]:
    """Of the texts that a server takes, and of the others."""
    bad = [i for i, text in enumerate(rows.texts) if not text or POISON in text]
    return sorted(set(range(COUNT)) - set(bad)), bad


def test_an_output_that_is_right(rows: Rows, tmp_path: Path) -> None:
    good, bad = _ids(rows)
    assert {rows.texts[i] for i in bad} > {None, ""}
    _write(tmp_path, rows, good, bad, lambda _: None)
    assert rows.check(tmp_path) == Found(rows=len(good), rejects=len(bad))
    assert rows.check(tmp_path).right


def test_each_wrong_is_seen(rows: Rows, tmp_path: Path) -> None:
    good, bad = _ids(rows)

    def swap(vectors: Vectors) -> None:
        vectors[[10, 11]] = vectors[[11, 10]]
        vectors[12, DIM - 1] *= 1.0001

    ids = [*good[:-4], good[0], bad[0]]  # four lost, one of them rejected; one twice, one not rejected
    _write(tmp_path, rows, ids, [*bad[1:], good[-1], good[1]], swap)
    found = rows.check(tmp_path)
    assert found == Found(rows=len(ids), rejects=len(bad) + 1, lost=3, twice=2, wrong=3, rejected=2, accepted=1)
    assert not found.right
    running = rows.check_while_running(tmp_path)
    assert (running.lost, running.twice, running.wrong, running.accepted) == (0, 1, 3, 1)


def test_nothing_there_yet_is_nothing_wrong(rows: Rows, tmp_path: Path) -> None:
    assert rows.check_while_running(tmp_path) == Found()


def test_the_files_hold_the_texts_in_the_order_of_their_ids(rows: Rows, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows.write(folder)
    lines = (folder / "b.jsonl").read_text(encoding="utf-8").splitlines()
    texts = pq.read_table(folder / "a.parquet")["text"].to_pylist()
    texts += [json.loads(line)["text"] for line in lines]
    texts += pq.read_table(folder / "c.parquet")["text"].to_pylist()
    assert texts == rows.texts
    assert sorted(path.name for path in folder.iterdir()) == ["a.parquet", "b.jsonl", "c.parquet"]

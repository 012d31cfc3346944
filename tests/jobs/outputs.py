"""Outputs on disk, written by the real writing code, and hands to damage them with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus import Rows
from actors.embedder.open_part import OpenPart
from actors.messages import Columns, JobSpec, Orders, SourceFile
from actors.output.folder import REJECTS_PROPERTY
from actors.output.local_store import publish_file
from actors.output.parts import PLAN_PROPERTY, Reject, write_rejects
from actors.output.run_file import begin_run, fingerprint, identity
from actors.output.store import store_of
from actors.queue.plan import Plan
from jobs.verify import in_words, verify

DIM = 4
PLAN = Plan(
    files=(SourceFile("a", "a.jsonl", "jsonl", 20, 1, "f0"), SourceFile("b", "b.jsonl", "jsonl", 9, 1, "f1")),
    rows_per_part=8,
    rows_per_batch=16,
)
PARTS = [PLAN.part(index) for index in range(PLAN.parts)]
NAMES = [part.name for part in PARTS]
POSITIONS = Columns("text", None, (), pa.int64(), ())
STRINGS = Columns("text", "doc", (), pa.string(), ())


@dataclass(frozen=True)
class Output:
    """A finished output of `PLAN` on disk, and hands to damage it with."""

    out: Path
    columns: Columns
    dtype: str
    properties: dict[str, str]

    def table(self, index: int) -> pa.Table:
        return pq.read_table(self.out / NAMES[index])

    def rewrite(self, index: int, table: pa.Table, **properties: str) -> None:
        """Put `table` in the place of a part, with the footer that the part has."""
        there = pq.read_metadata(self.out / NAMES[index]).metadata
        kept = {key: there[key.encode()].decode() for key in (PLAN_PROPERTY, REJECTS_PROPERTY)}
        with pq.ParquetWriter(self.out / NAMES[index], table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({**kept, **properties})

    def set_ids(self, index: int, ids: Sequence[Any]) -> None:
        table = self.table(index).slice(0, len(ids))
        self.rewrite(index, table.set_column(0, "id", pa.array(ids, self.columns.id_type)))

    def set_vectors(self, index: int, change: Callable[[np.ndarray[Any, Any]], object]) -> None:
        table = self.table(index)
        vectors = np.array(table["embedding"].to_pylist(), self.dtype)
        change(vectors)
        type_ = pa.list_(pa.float16() if self.dtype == "float16" else pa.float32(), DIM)
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=type_)
        self.rewrite(index, table.set_column(1, "embedding", embedding))

    def rejects(self, index: int, places: Sequence[int], ids: pa.Array | None = None) -> None:
        """Put a file of rejects in its place: `ids[place]` for each of `places`."""
        if ids is None:
            ids = pa.array(range(PLAN.rows), pa.int64())
        rejects = [Reject(place, "refused", 413, "too long") for place in places]
        write_rejects(store_of(self.out), NAMES[index], self.columns, ids, rejects, "w")


def build(
    out: Path,
    columns: Columns = POSITIONS,
    dtype: str = "float32",
    ids: pa.Array | None = None,
    keep: Sequence[pa.Array] = (),
    rejected: Sequence[int] = (),
    model: str = "m",
) -> Output:
    """Write every part of `PLAN` as an embedder does; `ids`, `keep` and `rejected` are of the whole input."""
    out.mkdir(exist_ok=True)
    run = identity(PLAN, columns, model, DIM, dtype)
    begin_run(out, run)
    properties = {PLAN_PROPERTY: fingerprint(run)}
    spec = JobSpec(str(out), (), columns, DIM, dtype, properties, Orders({}), 1.0)
    random = np.random.default_rng(7)
    for part in PARTS:
        numbers = range(part.first_row, part.first_row + part.rows)
        texts = [None if number in rejected else f"text {number}" for number in numbers]
        rows = Rows(
            texts=texts,
            ids=None if ids is None else ids.slice(part.first_row, part.rows),
            keep=tuple(column.slice(part.first_row, part.rows) for column in keep),
        )
        open_part = OpenPart(part, rows, DIM, dtype)
        vectors = random.normal(size=(len(open_part.sendable), DIM))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        open_part.place(open_part.sendable, unit.astype(np.float32))
        assert open_part.complete
        open_part.write(spec, "w")
    publish_file(out / "_summary.json", json.dumps({"complete": True, "rows_total": PLAN.rows}))
    return Output(out, columns, dtype, properties)


def names(count: int = PLAN.rows) -> pa.Array:
    return pa.array([f"doc-{row}" for row in range(count)])


def complaint(out: Path, *, unique_ids: bool = False) -> str:
    """The one problem that `verify` finds, as it is printed."""
    found = verify(out, unique_ids=unique_ids)
    assert not found.ok
    assert len(found.problems) == 1, in_words(found)
    line = str(found.problems[0])
    assert "\n" not in line
    assert line in in_words(found).split("\n")
    assert in_words(found).startswith("NOT OK: ")
    return line

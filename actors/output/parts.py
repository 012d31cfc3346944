"""Vectors -> a part of Parquet, and rows that could not be embedded -> a file of rejects."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.messages import Columns
from actors.output.folder import REJECTS, publish

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]

PLAN_PROPERTY = "rayembed.plan"  # in the footer of each part: the fingerprint of the run

_MAX_DETAIL = 500
_VECTOR_LEAF = "embedding.list.element"


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be embedded: its place in the part, why, and what the server said of it."""

    row: int
    reason: str
    status: int | None
    detail: str


def part_schema(columns: Columns, dim: int, dtype: str) -> pa.Schema:
    """id, embedding: fixed_size_list<float|halffloat>[dim], then the kept columns."""
    element = pa.float16() if dtype == "float16" else pa.float32()
    kept = [pa.field(name, type_) for name, type_ in zip(columns.keep, columns.keep_types, strict=True)]
    return pa.schema([pa.field("id", columns.id_type), pa.field("embedding", pa.list_(element, dim)), *kept])


def reject_schema(columns: Columns) -> pa.Schema:
    return pa.schema(
        [("id", columns.id_type), ("reason", pa.string()), ("status", pa.int32()), ("detail", pa.string())]
    )


def write_part(
    path: Path,
    schema: pa.Schema,
    ids: pa.Array,
    vectors: Vectors,
    keep: Sequence[pa.Array],
    properties: dict[str, str],
    writer: str,
) -> None:
    """Publish one part. `vectors` is [n, dim] in the schema's element type, without a copy being made of it."""
    flat = pa.array(vectors.reshape(-1))
    embedding = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("embedding").type)
    table = pa.Table.from_arrays([ids, embedding, *keep], schema=schema)
    publish(path, lambda hidden: _write(hidden, table, properties), writer)


def write_rejects(
    folder: Path, name: str, columns: Columns, ids: pa.Array, rejects: Sequence[Reject], writer: str
) -> None:
    """Publish the rejects of the part called `name` under the same name; `ids` are those of the whole part."""
    target = folder / REJECTS
    target.mkdir(exist_ok=True)
    rejects = sorted(rejects, key=lambda reject: reject.row)
    table = pa.Table.from_arrays(
        [
            ids.take(pa.array([reject.row for reject in rejects], pa.int64())),
            pa.array([reject.reason for reject in rejects], pa.string()),
            pa.array([reject.status for reject in rejects], pa.int32()),
            pa.array([reject.detail[:_MAX_DETAIL] for reject in rejects], pa.string()),
        ],
        schema=reject_schema(columns),
    )
    publish(target / name, lambda hidden: pq.write_table(table, hidden), writer)


@lru_cache(maxsize=8)
def _leaves(schema: pa.Schema) -> frozenset[str]:
    """The paths of Parquet's own columns: a nested Arrow column has some below it."""
    file = io.BytesIO()
    pq.ParquetWriter(file, schema).close()
    columns = pq.ParquetFile(file).schema
    return frozenset(columns.column(i).path for i in range(len(columns)))


def _write(path: Path, table: pa.Table, properties: dict[str, str]) -> None:
    # Vectors hardly repeat or compress: dictionary, statistics and a codec would cost more CPU than all the rest
    others = _leaves(table.schema) - {_VECTOR_LEAF}
    with pq.ParquetWriter(
        path,
        table.schema,
        compression={**dict.fromkeys(others, "zstd"), _VECTOR_LEAF: "none"},
        use_dictionary=sorted(others - {"id"}),
        write_statistics=["id"],
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(properties)

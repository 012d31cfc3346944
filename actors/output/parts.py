"""Vectors -> a part of Parquet, and rows that could not be embedded -> a file of rejects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from actors.messages import Columns
from actors.output import vector_file
from actors.output.folder import REJECTED_PROPERTY, REJECTS
from actors.output.store import Store

# in the footer of each part: the fingerprint of the run, and its own name, also in that of its rejects
PLAN_PROPERTY = "rayembed.plan"
PART_PROPERTY = "rayembed.part"

_MAX_DETAIL = 500


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
    store: Store,
    name: str,
    schema: pa.Schema,
    ids: pa.Array,
    vectors: vector_file.Vectors,
    keep: Sequence[pa.Array],
    properties: dict[str, str],
    writer: str,
    digests: bytes = b"",
) -> None:
    """Publish one part. `vectors` is C-contiguous [n, dim] in the schema's element type; no copy is made of it.

    `digests` are those of the rows' texts, 16 bytes each; empty: they are not known.
    """
    others = pa.Table.from_arrays([ids, *keep], schema=schema.remove(schema.get_field_index("embedding")))

    def write(file: BinaryIO) -> None:
        vector_file.write(file, schema, others, vectors, {**properties, PART_PROPERTY: name}, digests)

    store.publish(name, write, writer)


def rejected(rows: Iterable[int]) -> str:
    """Stands for which rows of a part are rejects."""
    return hashlib.sha256(",".join(map(str, sorted(rows))).encode()).hexdigest()[:16]


def rejects_agree(store: Store, name: str, properties: Mapping[bytes, bytes]) -> bool:
    """Whether the file of rejects beside a part is of the rows that the part, by its properties, does not hold."""
    told = properties.get(REJECTED_PROPERTY.encode())
    return told is None or told.decode() == _rejected_by_file(store, name)


def _rejected_by_file(store: Store, name: str) -> str | None:
    """None where there is no such file, or none that says so."""
    try:
        with store.open(f"{REJECTS}/{name}") as file:
            properties = pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    told = properties.get(REJECTED_PROPERTY.encode())
    return told.decode() if told else None


def write_rejects(
    store: Store, name: str, columns: Columns, ids: pa.Array, rejects: Sequence[Reject], writer: str
) -> None:
    """Publish the rejects of the part called `name` under the same name; `ids` are those of the whole part."""
    rejects = sorted(rejects, key=lambda reject: reject.row)
    table = pa.Table.from_arrays(
        [
            ids.take(pa.array([reject.row for reject in rejects], pa.int64())),
            pa.array([reject.reason for reject in rejects], pa.string()),
            pa.array([reject.status for reject in rejects], pa.int32()),
            pa.array([reject.detail[:_MAX_DETAIL] for reject in rejects], pa.string()),
        ],
        schema=reject_schema(columns).with_metadata(
            {PART_PROPERTY: name, REJECTED_PROPERTY: rejected(reject.row for reject in rejects)}
        ),
    )
    store.publish(f"{REJECTS}/{name}", lambda file: pq.write_table(table, file), writer)

"""Nearest neighbours over an output folder, by comparing with every vector: small, exact, no index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from actors.errors import UserError

# Each is answered by functions that are named and worded otherwise, so the hits show meaning, not spelling: three
# modules' ways to wait for a process, the calendar's weekdays, three modules' timers.
SAMPLE_QUERIES = (
    "wait until a child process finishes",
    "which day of the week is it",
    "call a function after a delay",
)

_ROWS_AT_ONCE = 16_384

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hit:
    """A row found: its `id` as it is in the output, and its cosine with the query, -1 to 1."""

    id: str | int
    score: float


def nearest(out_dir: str | Path, query_vector: npt.ArrayLike, k: int) -> list[Hit]:
    """The `k` rows of `out_dir`'s parts whose vectors have the highest cosine with `query_vector`, best first.

    Reads `id` and `embedding` of the `part-*.parquet` files only, a batch at a time, so memory does not grow with
    the rows. Equal scores keep the order of the output; fewer rows than `k` give fewer hits. A vector of zeros
    scores 0. Raises UserError when the folder has no parts, or vectors of another length than `query_vector`.
    """
    query = _unit(np.asarray(query_vector, np.float32))
    best_scores, best_ids = np.empty(0, np.float32), pa.array([])
    for ids, vectors in _batches(Path(out_dir), len(query)):
        scores = np.concatenate([best_scores, _cosines(vectors, query)])
        known = pa.concat_arrays([best_ids.cast(ids.type), ids])
        top = np.argsort(-scores, kind="stable")[:k]
        best_scores, best_ids = scores[top], known.take(pa.array(top))
    return [Hit(row, float(score)) for row, score in zip(best_ids.to_pylist(), best_scores, strict=True)]


def _batches(out_dir: Path, dim: int) -> Iterator[tuple[pa.Array, Floats]]:
    parts = sorted(out_dir.glob("part-*.parquet"))
    if not parts:
        raise UserError(
            f"{out_dir}: no part-*.parquet in this folder; give the folder that `rayembed run -o` wrote"
        )
    dataset = ds.dataset([str(part) for part in parts], format="parquet")
    stored = dataset.schema.field("embedding").type.list_size
    if stored != dim:
        raise UserError(f"{out_dir}: its vectors have {stored} elements, the query's has {dim}; use the same model")
    for batch in dataset.to_batches(columns=["id", "embedding"], batch_size=_ROWS_AT_ONCE):
        flat = batch.column("embedding").flatten().to_numpy(zero_copy_only=False)
        yield batch.column("id"), flat.reshape(-1, dim).astype(np.float32, copy=False)


def _cosines(vectors: Floats, query: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1)
    return np.asarray(vectors @ query / np.where(lengths == 0, 1, lengths), np.float32)


def _unit(vector: Floats) -> Floats:
    length = np.linalg.norm(vector)
    return vector if length == 0 else np.asarray(vector / length, np.float32)

"""A part while its rows are being embedded: texts on one side, a preallocated block of vectors on the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.corpus import Rows
from actors.embedder.blocks import Blocks
from actors.messages import JobSpec, Part, PartDone
from actors.output.folder import REJECTS_PROPERTY, rejects_of
from actors.output.parts import Reject, part_schema, write_part, write_rejects

Ints = npt.NDArray[np.int64]

_MOST_HALF = float(np.finfo(np.float16).max)


class OpenPart:
    """Holds `rows x dim` elements of the output's type, lent by `blocks`, from the first vector until `close`.

    Rows that cannot be sent (no text, bad row) are rejects from the start; `sendable` are the others.
    """

    def __init__(self, part: Part, rows: Rows, dim: int, dtype: str, blocks: Blocks | None = None) -> None:
        self.part = part
        self._rows = rows
        self._shape = part.rows, dim
        self._dtype = np.dtype(np.float16 if dtype == "float16" else np.float32)
        self._blocks = blocks or Blocks()
        self._rejects: dict[int, Reject] = {}
        for row, text in enumerate(rows.texts):
            if row in rows.bad:
                self.reject([row], "bad_row", None, rows.bad[row])
            elif text is None:
                self.reject([row], "null_text", None, "the row has no text")
            elif not text:
                self.reject([row], "empty_text", None, "the text is empty")
        self.sendable: Ints = np.array([i for i in range(part.rows) if i not in self._rejects], np.int64)
        self._pending = len(self.sendable)

    @cached_property
    def _block(self) -> npt.NDArray[np.uint8]:
        return self._blocks.take(self._dtype.itemsize * self._shape[0] * self._shape[1])

    @cached_property
    def _vectors(self) -> npt.NDArray[np.floating]:
        rows, dim = self._shape
        return self._block[: self._dtype.itemsize * rows * dim].view(self._dtype).reshape(rows, dim)

    def close(self) -> None:
        """Give the memory back; the part is not to be used any more."""
        if "_block" in self.__dict__:
            self._blocks.give(self._block)
            del self._block, self.__dict__["_vectors"]

    def texts(self, rows: Ints) -> list[str]:
        """The texts of some sendable rows."""
        texts = self._rows.texts
        return [texts[row] or "" for row in rows]

    def place(self, rows: Ints, vectors: npt.NDArray[np.float32]) -> None:
        """Take the vectors of `rows`, float32[len(rows), dim]; one that float16 cannot hold becomes a reject."""
        if self._dtype == np.float16:
            beyond = np.abs(vectors).max(axis=1) > _MOST_HALF
            self.reject(
                rows[beyond], "beyond_float16", None, "a value is too large for float16; use --dtype float32"
            )
            vectors = np.clip(vectors, -_MOST_HALF, _MOST_HALF)
        self._vectors[rows] = vectors
        self._pending -= len(rows)

    def reject(self, rows: Sequence[int] | Ints, reason: str, status: int | None, detail: str) -> None:
        for row in rows:
            self._rejects[int(row)] = Reject(int(row), reason, status, detail)

    def refuse(self, rows: Ints, reason: str, status: int | None, detail: str) -> None:
        """Reject rows that were sent."""
        self.reject(rows, reason, status, detail)
        self._pending -= len(rows)

    @property
    def complete(self) -> bool:
        return self._pending == 0

    def write(self, spec: JobSpec, writer: str) -> PartDone:
        """Make the part durable, its rejects before it. Blocks; call it in a thread.

        A part that another holder made durable meanwhile stays as it is.
        """
        out = Path(spec.out)
        there = rejects_of(out / self.part.name)
        if there is not None:
            return PartDone(self.part.index, self.part.rows, there)
        ids = self._rows.ids
        if ids is None:
            ids = pa.array(np.arange(self.part.first_row, self.part.first_row + self.part.rows, dtype=np.int64))
        keep: Sequence[pa.Array] = self._rows.keep
        vectors = self._vectors
        if self._rejects:
            write_rejects(out, self.part.name, spec.columns, ids, list(self._rejects.values()), writer)
            good = np.setdiff1d(np.arange(self.part.rows), np.array(list(self._rejects), np.int64))
            ids, vectors = ids.take(pa.array(good)), vectors[good]
            keep = [column.take(pa.array(good)) for column in keep]
        write_part(
            out / self.part.name,
            part_schema(spec.columns, spec.dim, spec.dtype),
            ids,
            vectors,
            keep,
            {**spec.part_properties, REJECTS_PROPERTY: str(len(self._rejects))},
            writer,
        )
        return PartDone(self.part.index, self.part.rows, len(self._rejects))

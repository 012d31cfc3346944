"""A part while its rows are being embedded: texts on one side, a preallocated block of vectors on the other."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.corpus import Rows
from actors.embedder.blocks import Blocks
from actors.messages import JobSpec, Part, PartDone
from actors.output.digests import digest
from actors.output.folder import REJECTED_PROPERTY, REJECTS_PROPERTY
from actors.output.parts import Reject, part_schema, rejected, rejects_agree, write_rejects
from actors.output.sinks import Sink, open_sink
from actors.output.store import store_of

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_MOST_AGAIN = 20  # writes of a part that another holder writes at the same time
_MOST_HALF = float(np.finfo(np.float16).max)


class OpenPart:
    """Holds `rows x dim` elements of the output's type, lent by `blocks`, from the first vector until `close`.

    Rows that cannot be sent (no text, bad row) are rejects from the start; `sendable` are the others, less those
    that were taken over. `lengths` are the UTF-8 bytes of each row's text.
    """

    def __init__(self, part: Part, rows: Rows, dim: int, dtype: str, blocks: Blocks | None = None) -> None:
        self.part = part
        self._rows = rows
        self._shape = part.rows, dim
        self._dtype = np.dtype(np.float16 if dtype == "float16" else np.float32)
        self._blocks = blocks or Blocks()
        self._rejects: dict[int, Reject] = {}
        self._by = np.zeros(
            part.rows, np.uint16
        )  # the number of whoever settled a row that was sent; 0: nobody yet
        self._cut: set[int] = set()
        self.lengths, self._digests = _weighed(rows.texts)
        self.sendable: Ints = np.arange(part.rows, dtype=np.int64)
        if rows.bad or not all(rows.texts):
            self._reject_unsendable()
        self._pending = len(self.sendable)

    def _reject_unsendable(self) -> None:
        for row, text in enumerate(self._rows.texts):
            if row in self._rows.bad:
                self.reject([row], "bad_row", None, self._rows.bad[row])
            elif text is None:
                self.reject([row], "null_text", None, "the row has no text")
            elif not text:
                self.reject([row], "empty_text", None, "the text is empty")
        self.sendable = np.array([i for i in range(self.part.rows) if i not in self._rejects], np.int64)

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
        return [texts[row] or "" for row in rows.tolist()]

    def text(self, row: int) -> str:
        return self._rows.texts[row] or ""

    def digests(self, rows: Ints) -> list[bytes]:
        """What stands for the texts of some sendable rows, 16 bytes each."""
        return self._digests if len(rows) == len(self._digests) else [self._digests[row] for row in rows.tolist()]

    def digest_of(self, row: int) -> bytes:
        return self._digests[row]

    def take_over(self, known: Iterable[tuple[Ints, npt.NDArray[np.floating]]]) -> int:
        """Take vectors that are known before any row was sent: rows, [n], and theirs, [n, dim]. How many it took.

        These rows are not sendable any more.
        """
        taken, count = [np.zeros(0, np.int64)], 0
        for rows, vectors in known:
            count += self.place(rows, vectors, 0)
            taken.append(rows)
        self.sendable = np.setdiff1d(self.sendable, np.concatenate(taken), assume_unique=True)
        return count

    def place(self, rows: Ints, vectors: npt.NDArray[np.floating], by: int = 1, cut: Mask | None = None) -> int:
        """Take the vectors of `rows`, [len(rows), dim]. How many: one that float16 cannot hold becomes a reject.

        `by` is a number of whoever brought them, `cut` says which are of the beginning of their text only.
        """
        refused = rows[:0]
        if self._dtype == np.float16:
            refused = rows[np.abs(vectors).max(axis=1) > _MOST_HALF]
            self.reject(refused, "beyond_float16", None, "a value is too large for float16; use --dtype float32")
            vectors = np.clip(vectors, -_MOST_HALF, _MOST_HALF)
        self._vectors[rows] = vectors
        if cut is not None:
            self._cut.update(np.setdiff1d(rows[cut], refused).tolist())
        self._settle(rows, by)
        return len(rows) - len(refused)

    def reject(self, rows: Sequence[int] | Ints, reason: str, status: int | None, detail: str) -> None:
        for row in rows:
            self._rejects[int(row)] = Reject(int(row), reason, status, detail)

    def refuse(self, rows: Ints, reason: str, status: int | None, detail: str, by: int = 1) -> None:
        """Reject rows that were sent."""
        self.reject(rows, reason, status, detail)
        self._settle(rows, by)

    def _settle(self, rows: Ints, by: int) -> None:
        self._by[rows] = by
        self._pending -= len(rows)

    # what became of a row, for rows with the same text

    def settled_by(self, row: int) -> int:
        """The number of whoever brought its vector or its reject; 0: there is none yet."""
        return int(self._by[row])

    def reject_of(self, row: int) -> Reject | None:
        return self._rejects.get(row)

    def is_cut(self, row: int) -> bool:
        return row in self._cut

    def vectors(self, rows: Ints | int) -> npt.NDArray[np.floating]:
        """Those of settled rows, [len(rows), dim], or that of one, [dim], of the output's type."""
        vectors: npt.NDArray[np.floating] = self._vectors[rows]
        return vectors

    @property
    def pending(self) -> int:
        """Rows of which nothing has come yet."""
        return self._pending

    @property
    def complete(self) -> bool:
        return self._pending == 0

    def write(self, spec: JobSpec, writer: str) -> PartDone:
        """Make the part durable, its rejects before it. Blocks; call it in a thread.

        A part that another holder made durable meanwhile stays as it is. Where two write one at the same time and
        were refused different rows, whoever finds the rejects of the one beside the part of the other writes both
        again. Each looks after it has written: so the last to look finds them to agree.
        """
        sink = open_sink(spec.sink, spec.out)
        there = sink.written_meanwhile(self.part.name)
        if there is not None:
            return PartDone(self.part.index, self.part.rows, there)
        self._publish(sink, spec, writer)
        for _ in range(_MOST_AGAIN):
            lies = sink.properties(self.part.name) if self._rejects else None
            if lies is None or rejects_agree(store_of(spec.out), self.part.name, lies):
                break
            time.sleep(random.random())  # else they may do the same again at the same time
            self._publish(sink, spec, writer)
        return PartDone(self.part.index, self.part.rows, len(self._rejects))

    def _publish(self, sink: Sink, spec: JobSpec, writer: str) -> None:
        ids = self._rows.ids
        if ids is None:
            ids = pa.array(np.arange(self.part.first_row, self.part.first_row + self.part.rows, dtype=np.int64))
        keep: Sequence[pa.Array] = self._rows.keep
        vectors, digests = self._vectors, self._digests
        properties = {**spec.part_properties, REJECTS_PROPERTY: str(len(self._rejects))}
        if self._rejects:
            properties[REJECTED_PROPERTY] = rejected(self._rejects)
            write_rejects(
                store_of(spec.out), self.part.name, spec.columns, ids, list(self._rejects.values()), writer
            )
            good = np.setdiff1d(np.arange(self.part.rows), np.array(list(self._rejects), np.int64))
            ids, vectors, digests = ids.take(pa.array(good)), vectors[good], self.digests(good)
            keep = [column.take(pa.array(good)) for column in keep]
        sink.write(
            self.part.name,
            part_schema(spec.columns, spec.dim, spec.dtype),
            ids,
            vectors,
            keep,
            properties,
            writer,
            b"".join(digests),
        )


def _weighed(texts: Sequence[str | None]) -> tuple[Ints, list[bytes]]:
    """UTF-8 bytes and digest of each text, in one pass: every row pays for it."""
    lengths, digests = [], []
    for text in texts:
        encoded = (text or "").encode()
        lengths.append(len(encoded))
        digests.append(digest(encoded))
    return np.array(lengths, np.int64), digests

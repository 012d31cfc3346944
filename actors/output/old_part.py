"""A part of an earlier output: the digests of its texts, and any of its vectors without the others."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus.storage import reason
from actors.errors import FAILED, UserError
from actors.output.digests import DIGEST, DIGEST_BYTES, Words, as_words
from actors.output.store import Place, join, store_of
from actors.output.vector_file import TEXTS_PROPERTY, Vectors

Ints = npt.NDArray[np.int64]


class OldPart:
    """An open part. Raises UserError, which names it, when it cannot be read or holds no digests. One thread.

    `asked_by` is the option for which it is read.
    """

    def __init__(self, out: Place, name: str, dim: int, dtype: str, asked_by: str = "--reuse") -> None:
        self._asked_by = asked_by
        self._path = join(out, name)
        self._dim, self._dtype = dim, np.dtype(dtype)
        try:
            self._file = store_of(out).open(name)  # it reads what is asked for, and nothing around it
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._learn(pq.read_metadata(self._file))
        except (OSError, pa.ArrowException) as error:
            self._file.close()
            raise self._unreadable(error) from error
        except BaseException:
            self._file.close()
            raise

    def digests(self) -> Words:
        """Those of the texts of its rows, uint64[rows, 2]."""
        data = self._read(self._at, self._rows * DIGEST_BYTES)
        if zlib.crc32(data) != self._crc32:
            raise self._unreadable(ValueError("its digests are damaged"))
        return as_words(data)

    def vectors(self, rows: Ints) -> Iterator[tuple[slice, Vectors]]:
        """The vectors of `rows`, which ascend, in runs of at most one page: which of `rows`, [n, dim]."""
        pages = rows // self._page_rows
        edges = np.flatnonzero((np.diff(rows) != 1) | (np.diff(pages) != 0)) + 1
        size = self._dim * self._dtype.itemsize
        for start, stop in pairwise((0, *edges.tolist(), len(rows))):
            at = self._pages[pages[start]] + int(rows[start]) % self._page_rows * size
            data = self._read(at, (stop - start) * size)
            yield slice(start, stop), np.frombuffer(data, self._dtype).reshape(-1, self._dim)

    def close(self) -> None:
        self._file.close()

    def _learn(self, metadata: pq.FileMetaData) -> None:
        """Where in the file things are."""
        self._rows, self._at, self._crc32, self._page_rows, self._pages = metadata.num_rows, 0, 0, 1, [0]
        if not self._rows:
            return
        told = (metadata.metadata or {}).get(TEXTS_PROPERTY.encode())
        if told is None:
            raise UserError(
                f"{self._asked_by}: {self._path} does not say which texts its vectors are of (it is of an earlier "
                f"version, or was written anew by another program); run without {self._asked_by}"
            )
        try:
            where = json.loads(told)
            if where["hash"] != DIGEST:
                raise ValueError(f"hashes of kind {where['hash']}")
            self._at, self._crc32, self._page_rows = where["at"], where["crc32"], where["page_rows"]
            self._pages = [int(at) for at in where["pages"]]
            if len(self._pages) != -(-self._rows // self._page_rows):
                raise ValueError("pages of other rows")
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise self._unreadable(error) from error

    def _read(self, at: int, size: int) -> bytes:
        try:
            self._file.seek(at)
            data: bytes = self._file.read(size)
        except OSError as error:
            raise self._unreadable(error) from error
        while len(data) < size:  # a read may be cut short
            more = self._file.read(size - len(data))
            if not more:
                raise self._unreadable(EOFError("it is cut off"))
            data += more
        return data

    def _unreadable(self, error: BaseException) -> UserError:
        why = reason(error) if isinstance(error, OSError) else str(error).split("\n", 1)[0]
        return UserError(
            f"{self._asked_by}: {self._path} cannot be read ({why}); run without {self._asked_by}", FAILED
        )

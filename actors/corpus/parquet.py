"""Parquet: rows counted from the footer, columns projected, row groups read forward only."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus.base import NO_CHECKPOINTS, Survey
from actors.corpus.storage import bare, buffer_bytes, open_random
from actors.corpus.tables import BatchReader, types_of
from actors.errors import UserError
from actors.messages import Columns, Part, SourceFile

_BATCH_ROWS = 8192
_ENDS_BYTES = 1 << 16


class ParquetFormat:
    suffixes = (".parquet", ".pq")

    def survey(self, path: str) -> Survey:
        try:
            with open_random(path) as file, pq.ParquetFile(file) as parquet:
                return Survey(
                    rows=parquet.metadata.num_rows,
                    size=file.size(),
                    fingerprint=_checksum(file),
                    types=types_of(bare(path), parquet.schema_arrow),
                    checkpoints=NO_CHECKPOINTS,
                )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: of a column's name
            raise UserError(f"{bare(path)} is not a readable Parquet file: {_first_line(error)}") from error

    def open(self, file: SourceFile, columns: Columns) -> ParquetReader:
        return ParquetReader(file, columns)


class ParquetReader(BatchReader):
    def __init__(self, file: SourceFile, columns: Columns) -> None:
        self._source = open_random(file.path)
        # column chunks are streamed: a row group may be larger than memory. Where pages have checksums these are
        # compared, since what is damaged may well decode to other texts
        self._file = pq.ParquetFile(
            self._source,
            buffer_size=buffer_bytes(file.path),
            pre_buffer=False,
            page_checksum_verification=True,
        )
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._group_starts = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)
        super().__init__(self._file.schema_arrow, columns)

    def close(self) -> None:
        self._file.close()
        self._source.close()

    def _start_before(self, part: Part) -> int:
        return int(self._group_starts[self._group_of(part)])

    def _from(self, part: Part) -> Iterator[pa.RecordBatch]:
        groups = list(range(self._group_of(part), self._file.num_row_groups))
        batches: Iterator[pa.RecordBatch] = self._file.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=groups, columns=self._columns.needed, use_threads=False
        )
        return batches

    def _group_of(self, part: Part) -> int:
        return int(np.searchsorted(self._group_starts, part.offset, "right")) - 1


def _checksum(file: pa.NativeFile) -> str:
    """Of the footer, which holds each column chunk's place, size and statistics, and of both ends of the data."""
    size = file.size()
    head = file.read_at(_ENDS_BYTES, 0)
    footer = 8 + int.from_bytes(file.read_at(4, size - 8), "little")
    tail = min(size, footer + _ENDS_BYTES)
    return f"{zlib.crc32(file.read_at(tail, size - tail), zlib.crc32(head)):08x}"


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]

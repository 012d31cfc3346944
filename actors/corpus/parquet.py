"""Parquet: rows counted from the footer, columns projected, row groups read forward only."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus.base import NO_CHECKPOINTS, Rows, Survey
from actors.errors import FAILED, UserError
from actors.messages import Columns, Part, SourceFile

_BATCH_ROWS = 8192
_ENDS_BYTES = 1 << 16
_READ_BUFFER = 1 << 20  # stream column chunks: a row group may be larger than memory


class ParquetFormat:
    suffixes = (".parquet", ".pq")

    def survey(self, path: str) -> Survey:
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                rows = file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is not a readable Parquet file: {_first_line(error)}") from error
        if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
            raise UserError(f"{path} has two columns called '{twice[0]}'; rename one of them")
        return Survey(
            rows=rows,
            size=Path(path).stat().st_size,
            fingerprint=_checksum(path),
            types={field.name: field.type for field in schema},
            checkpoints=NO_CHECKPOINTS,
        )

    def open(self, file: SourceFile, columns: Columns) -> ParquetReader:
        if self.survey(file.path).fingerprint != file.fingerprint:
            raise UserError(f"{file.name} changed since the job began", FAILED)
        return ParquetReader(file, columns)


class ParquetReader:
    def __init__(self, file: SourceFile, columns: Columns) -> None:
        self._columns = columns
        self._file = pq.ParquetFile(file.path, buffer_size=_READ_BUFFER, pre_buffer=False)
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._group_starts = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        self._row = -1  # of the first row not yet handed out; -1: nothing open

    def read(self, part: Part) -> Rows:
        group = int(np.searchsorted(self._group_starts, part.offset, "right")) - 1
        if self._row < 0 or part.offset < self._row or self._group_starts[group] > self._row:
            self._start(group)
        for _ in self._take(part.offset - self._row):
            pass  # skipped rows are dropped as they come: a row group may be larger than memory
        table = pa.Table.from_batches(self._take(part.rows), schema=self._projected_schema())
        return _rows(table.combine_chunks(), self._columns)

    def close(self) -> None:
        self._file.close()

    def _projected_schema(self) -> pa.Schema:
        schema = self._file.schema_arrow
        return pa.schema([schema.field(name) for name in self._columns.needed])

    def _start(self, group: int) -> None:
        self._batches = self._file.iter_batches(
            batch_size=_BATCH_ROWS,
            row_groups=list(range(group, self._file.num_row_groups)),
            columns=self._columns.needed,
            use_threads=False,
        )
        self._rest = None
        self._row = int(self._group_starts[group])

    def _take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The next `rows` rows, moving on."""
        while rows > 0:
            batch = self._rest if self._rest is not None else next(self._batches)
            batch = batch.select(self._columns.needed)
            head = batch.slice(0, rows)
            self._rest = batch.slice(rows) if rows < batch.num_rows else None
            rows -= head.num_rows
            self._row += head.num_rows
            yield head


def _rows(table: pa.Table, columns: Columns) -> Rows:
    bad: dict[int, str] = {}
    ids = None
    if columns.id is not None:
        ids = _checked(_one_array(table.column(columns.id), columns.id_type), columns.id, bad)
        for row in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
            bad.setdefault(int(row), f"'{columns.id}' is null")
    keep = tuple(
        _checked(_one_array(table.column(name), type_), name, bad)
        for name, type_ in zip(columns.keep, columns.keep_types, strict=True)
    )
    texts = _texts(_one_array(table.column(columns.text), pa.string()), bad)
    return Rows(texts=texts, ids=ids, keep=keep, bad=bad)


def _one_array(column: pa.ChunkedArray, type_: pa.DataType) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column without chunks stays chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array if array.type.equals(type_) else array.cast(type_)


def _texts(array: pa.Array, bad: dict[int, str]) -> list[str | None]:
    try:
        texts: list[str | None] = array.to_pylist()
        return texts
    except UnicodeDecodeError:
        return _readable(array, "the text", bad)


def _checked(array: pa.Array, name: str, bad: dict[int, str]) -> pa.Array:
    """`array`, with null for what is or holds no UTF-8: one such value would make the whole part unreadable."""
    if _is_valid(array):
        return array
    broken = [row for row in range(len(array)) if not _is_valid(array.take(pa.array([row])))]
    bad.update(dict.fromkeys(broken, f"'{name}' is not valid UTF-8"))
    places = np.arange(len(array))
    return array.take(pa.array(places, mask=np.isin(places, broken)))


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _readable(array: pa.Array, what: str, bad: dict[int, str]) -> list[str | None]:
    """Parquet does not check that a string is UTF-8; only the rows that are not may be lost."""
    values: list[str | None] = []
    binary = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
    for row, raw in enumerate(array.view(binary).to_pylist()):
        try:
            values.append(None if raw is None else raw.decode())
        except UnicodeDecodeError:
            values.append(None)
            bad[row] = f"{what} is not valid UTF-8"
    return values


def _checksum(path: str) -> str:
    """Of the footer, which holds each column chunk's place, size and statistics, and of both ends of the data."""
    with Path(path).open("rb") as file:
        head = file.read(_ENDS_BYTES)
        file.seek(-8, 2)
        footer = 8 + int.from_bytes(file.read(4), "little")
        file.seek(-min(file.seek(0, 2), footer + _ENDS_BYTES), 2)
        return f"{zlib.crc32(file.read(), zlib.crc32(head)):08x}"


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]

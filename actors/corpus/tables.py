"""Arrow tables -> rows, for the formats that hold columns. What is no UTF-8 costs its own row only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from actors.corpus.base import Rows
from actors.errors import UserError
from actors.messages import Columns, Part


class BatchReader(ABC):
    """Reads rows out of batches that come in order; those skipped are dropped as they come, never held together.

    `untrusted`: nobody has checked where the arrays' offsets point.
    """

    def __init__(self, schema: pa.Schema, columns: Columns, *, untrusted: bool = False) -> None:
        self._columns = columns
        self._schema = pa.schema([schema.field(name) for name in columns.needed])
        self._untrusted = untrusted
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        self._row = -1  # of the first row not yet handed out; -1: nothing open

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _start_before(self, part: Part) -> int:
        """The last row at or before the part from which batches can come."""

    @abstractmethod
    def _from(self, part: Part) -> Iterator[pa.RecordBatch]:
        """The batches from that row on, with at least the columns needed."""

    def read(self, part: Part) -> Rows:
        start = self._start_before(part)
        if not max(start, 0) <= self._row <= part.offset:
            self._batches, self._rest, self._row = self._from(part), None, start
        for _ in self._take(part.offset - self._row):
            pass
        table = pa.Table.from_batches(self._take(part.rows), schema=self._schema)
        if self._untrusted:
            for column in table.columns:
                for chunk in column.chunks:
                    _check_places(chunk)
        return rows_of(table, self._columns)

    def _take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The next `rows` rows, moving on."""
        while rows > 0:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise OSError(f"it ends at row {self._row}")
            batch = batch.select(self._columns.needed)
            head = batch.slice(0, rows)
            self._rest = batch.slice(rows) if rows < batch.num_rows else None
            rows -= head.num_rows
            self._row += head.num_rows
            yield head


def types_of(path: str, schema: pa.Schema) -> dict[str, pa.DataType]:
    """The columns by name. Raises UserError when two share one."""
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise UserError(f"{path} has two columns called '{twice[0]}'; rename one of them")
    return {field.name: field.type for field in schema}


def rows_of(table: pa.Table, columns: Columns) -> Rows:
    """The rows of a table that has the columns needed, read but not yet checked."""
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
    texts: list[str | None] = []
    for chunk in table.column(columns.text).chunks:  # together they may be more than a string array holds
        texts += _texts(chunk if _is_plain_text(chunk.type) else chunk.cast(pa.large_string()), len(texts), bad)
    return Rows(texts=texts, ids=ids, keep=keep, bad=bad)


def _one_array(column: pa.ChunkedArray, type_: pa.DataType) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column without chunks stays chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    return array if array.type.equals(type_) else array.cast(type_)


def _is_plain_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _texts(array: pa.Array, first: int, bad: dict[int, str]) -> list[str | None]:
    try:
        texts: list[str | None] = array.to_pylist()
        return texts
    except UnicodeDecodeError:
        return _readable(array, first, bad)


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


def _readable(array: pa.Array, first: int, bad: dict[int, str]) -> list[str | None]:
    """Nobody checked that a string in a file is UTF-8; only the rows that are not may be lost."""
    values: list[str | None] = []
    binary = pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()
    for row, raw in enumerate(array.view(binary).to_pylist(), first):
        try:
            values.append(None if raw is None else raw.decode())
        except UnicodeDecodeError:
            values.append(None)
            bad[row] = "the text is not valid UTF-8"
    return values


def _check_places(array: pa.Array) -> None:
    """Raises ArrowInvalid where an offset or index points outside the array's data. What is no UTF-8 passes."""
    if _is_valid(array):
        return
    if pa.types.is_dictionary(array.type):
        _check_places(array.indices)
        _check_places(array.dictionary)
        pa.DictionaryArray.from_arrays(array.indices, pa.nulls(len(array.dictionary)))
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array.view(pa.binary() if pa.types.is_string(array.type) else pa.large_binary()).validate(full=True)
    elif isinstance(array, pa.ListArray | pa.LargeListArray):
        array.validate()
        _check_places(array.flatten())
    else:
        array.validate(full=True)

"""Arrow IPC: the file format, whose batches are read by number, and the stream format, read forward only."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import ipc

from actors.corpus.base import Survey
from actors.corpus.storage import bare, open_random
from actors.corpus.tables import BatchReader, types_of
from actors.errors import UserError
from actors.messages import Columns, Part, SourceFile

_FILE_MAGIC = b"ARROW1"
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


class ArrowFormat:
    suffixes = (".arrow", ".feather", ".ipc")

    def survey(self, path: str) -> Survey:
        try:
            with open_random(path, mapped=True) as file:
                rows_of_batches, schema = _batch_rows(file)
                types = types_of(bare(path), schema)
                return Survey(
                    rows=sum(rows_of_batches),
                    size=file.size(),
                    fingerprint=_checksum(file),
                    types=types,
                    checkpoints=_starts(rows_of_batches) if _is_file(file) else _starts([]),
                )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: of a column's name
            why = str(error).split("\n", 1)[0]
            raise UserError(f"{bare(path)} is not a readable Arrow file: {why}") from error

    def open(self, file: SourceFile, columns: Columns) -> ArrowReader:
        return ArrowReader(file, columns)


class ArrowReader(BatchReader):
    """A local file is mapped into memory, so that what is skipped is not even read."""

    def __init__(self, file: SourceFile, columns: Columns) -> None:
        self._source = open_random(file.path, mapped=True)
        self._is_file = _is_file(self._source)
        schema = _reader(self._source, None).schema
        self._options = _only([schema.get_field_index(name) for name in columns.needed])
        super().__init__(schema, columns, untrusted=True)

    def close(self) -> None:
        self._source.close()

    def _start_before(self, part: Part) -> int:
        return part.start.row if self._is_file else 0

    def _from(self, part: Part) -> Iterator[pa.RecordBatch]:
        return _batches(_reader(self._source, self._options), part.start.byte)


def _reader(source: pa.NativeFile, options: ipc.IpcReadOptions | None) -> ipc.RecordBatchFileReader:
    """A reader of either format. It leaves `source` open."""
    if _is_file(source):
        return ipc.open_file(source, options=options)
    source.seek(0)
    return ipc.open_stream(source, options=options)


def _batches(reader: ipc.RecordBatchFileReader, first: int) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        return (reader.get_batch(number) for number in range(first, reader.num_record_batches))
    return iter(reader)


def _batch_rows(source: pa.NativeFile) -> tuple[list[int], pa.Schema]:
    """How many rows each batch has, at the cost of one narrow column."""
    schema = _reader(source, None).schema
    widths = [field.type.bit_width if _is_fixed(field.type) else 1 << 30 for field in schema]
    options = _only([widths.index(min(widths))] if widths else [])
    return [batch.num_rows for batch in _batches(_reader(source, options), 0)], schema


def _is_fixed(type_: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(type_))


def _only(fields: list[int]) -> ipc.IpcReadOptions:
    return ipc.IpcReadOptions(included_fields=fields, use_threads=False)


def _is_file(source: pa.NativeFile) -> bool:
    return bytes(source.read_at(len(_FILE_MAGIC), 0)) == _FILE_MAGIC


def _starts(rows_of_batches: list[int]) -> npt.NDArray[np.int64]:
    """In the order of `Start`: the first row of each batch, and its number in the place of the byte."""
    rows = np.array([0, *rows_of_batches[:-1]], np.int64).cumsum()
    table = np.zeros((len(rows), 4), np.int64)
    table[:, 0], table[:, 2] = rows, np.arange(len(rows))
    return table


def _checksum(source: pa.NativeFile) -> str:
    """Of a small file all; of a large one its size, both ends, and samples evenly between them."""
    size = source.size()
    places = np.linspace(0, max(0, size - _SAMPLE_BYTES), _SAMPLES).astype(np.int64)
    if size <= _SAMPLES * _SAMPLE_BYTES:
        return f"{zlib.crc32(source.read_at(size, 0)):08x}"
    checksum = zlib.crc32(str(size).encode())
    for place in places:
        checksum = zlib.crc32(source.read_at(_SAMPLE_BYTES, int(place)), checksum)
    return f"{checksum:08x}"

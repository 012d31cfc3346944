"""JSON Lines: one pass counts the lines and notes where reading can start; then only the lines asked for are read.

A row is a line that is not blank. A line that is not a JSON object is a bad row, never the end of a file.
"""

from __future__ import annotations

import itertools
import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.corpus.base import Rows, Survey
from actors.errors import FAILED, UserError
from actors.messages import Columns, Part, SourceFile

_BLOCK = 4 << 20
_STRIDE = 1024  # rows between two places where reading can start
_SAMPLE_ROWS = 1000  # from which the columns and their types are told
_NEWLINE, _RETURN = 10, 13
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder().decode


class JsonlFormat:
    suffixes = (".jsonl", ".ndjson")

    def survey(self, path: str) -> Survey:
        rows, checksum, checkpoints = _scan(path)
        return Survey(
            rows=rows,
            size=Path(path).stat().st_size,
            fingerprint=f"{checksum:08x}",
            types=_sample_types(path),
            checkpoints=checkpoints,
        )

    def open(self, file: SourceFile, columns: Columns) -> JsonlReader:
        return JsonlReader(file, columns)


class JsonlReader:
    def __init__(self, file: SourceFile, columns: Columns) -> None:
        self._name = file.name
        self._columns = columns
        self._file = Path(file.path).open("rb", buffering=1 << 20)  # noqa: SIM115 (closed by close())
        if os.fstat(self._file.fileno()).st_size != file.size:  # the checkpoints are of another file
            self._file.close()
            raise UserError(f"{file.name} changed since the job began", FAILED)
        self._row = 0

    def read(self, part: Part) -> Rows:
        if not part.seek_row <= self._row <= part.offset:
            self._file.seek(part.seek_byte)
            self._row = part.seek_row
        while self._row < part.offset:
            self._next_line()
        return _rows([self._next_line() for _ in range(part.rows)], self._columns)

    def close(self) -> None:
        self._file.close()

    def _next_line(self) -> bytes:
        while True:
            line = self._file.readline()
            if not line:
                raise UserError(f"{self._name} ends at row {self._row}: it changed since the job began", FAILED)
            if line not in (b"\n", b"\r\n"):
                self._row += 1
                return line


def _scan(path: str) -> tuple[int, int, npt.NDArray[np.int64]]:
    """Rows, CRC-32 of the content and checkpoints int64[n, 2] of (row, byte), one every `_STRIDE` rows."""
    rows = checksum = position = 0
    checkpoints: list[tuple[int, int]] = [(0, 0)]
    carry: list[bytes] = []  # the start of a line whose end is in a later block
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
            carry.append(block)
            if b"\n" not in block:
                continue
            data = b"".join(carry)
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
            starts = np.concatenate([[0], ends[:-1] + 1])
            starts = starts[_holds_something(data, starts, ends)]
            strides = range(-rows % _STRIDE, len(starts), _STRIDE)
            checkpoints += [(rows + k, position + int(starts[k])) for k in strides]
            rows += len(starts)
            carry = [data[int(ends[-1]) + 1 :]]
            position += int(ends[-1]) + 1
    if b"".join(carry) not in (b"", b"\r"):
        rows += 1
    return rows, checksum, np.array(checkpoints, np.int64)


def _holds_something(
    data: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    lengths = ends - starts
    first = np.frombuffer(data, np.uint8)[starts]
    blank: npt.NDArray[np.bool_] = (lengths == 0) | ((lengths == 1) & (first == _RETURN))
    return ~blank


def _rows(lines: list[bytes], columns: Columns) -> Rows:
    bad: dict[int, str] = {}
    objects = [_object(line, row, bad) for row, line in enumerate(lines)]
    texts = [_text(each, columns.text, row, bad) for row, each in enumerate(objects)]
    ids = None
    if columns.id is not None:
        ids = _column(objects, columns.id, columns.id_type, bad)
        for row in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
            bad.setdefault(int(row), f"'{columns.id}' is missing or null")
    keep = tuple(
        _column(objects, name, type_, bad) for name, type_ in zip(columns.keep, columns.keep_types, strict=True)
    )
    return Rows(texts=texts, ids=ids, keep=keep, bad=bad)


def _object(line: bytes, row: int, bad: dict[int, str]) -> dict[str, Any]:
    try:
        value = _decode(line.removeprefix(_BYTE_ORDER_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        bad[row] = f"not JSON: {error}"
        return {}
    if not isinstance(value, dict):
        bad[row] = f"not a JSON object: {line[:40].decode(errors='replace').strip()}"
        return {}
    return value


def _text(value: dict[str, Any], column: str, row: int, bad: dict[int, str]) -> str | None:
    text = value.get(column)
    if text is None or isinstance(text, str):
        return text
    bad[row] = f"'{column}' is {type(text).__name__}, not text"
    return None


def _column(objects: list[dict[str, Any]], name: str, type_: pa.DataType, bad: dict[int, str]) -> pa.Array:
    values = [each.get(name) for each in objects]
    if pa.types.is_string(type_):
        values = [_as_text(value) for value in values]
    array = _as(values, type_)
    if array is not None:
        return array
    fitting: list[Any] = []
    for row, value in enumerate(values):
        if _as([value], type_) is None:
            bad[row] = f"'{name}' is {str(value)[:40]!r}, not {type_} as in the first rows"
            value = None
        fitting.append(value)
    return pa.array(fitting, type_)


def _as_text(value: Any) -> str | None:
    """What is no string, in a column of strings, is kept as JSON."""
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _as(values: list[Any], type_: pa.DataType) -> pa.Array | None:
    """The array that holds just these values; None when there is none. Arrow alone would make 1.5 into 1."""
    try:
        array = pa.array(values, type_)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None
    return array if pa.types.is_string(type_) or _same(array.to_pylist(), values) else None


def _same(stored: Any, given: Any) -> bool:
    """Whether a value came through whole. A key that an object lacks is stored as null: that is the same."""
    if isinstance(given, dict):
        return isinstance(stored, dict) and all(_same(stored.get(key), value) for key, value in given.items())
    if isinstance(given, list):
        return isinstance(stored, list) and all(map(_same, stored, given))
    return stored == given and isinstance(stored, bool) == isinstance(given, bool)


def _sample_types(path: str) -> dict[str, pa.DataType]:
    """Types of the keys of the first objects; where values do not agree, text holds them all."""
    with Path(path).open("rb") as file:
        objects = [_object(line, 0, {}) for line in itertools.islice(file, _SAMPLE_ROWS)]
    types: dict[str, pa.DataType] = {}
    for name in dict.fromkeys(key for each in objects for key in each):
        try:
            types[name] = pa.array([each.get(name) for each in objects]).type
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            types[name] = pa.string()
    return types

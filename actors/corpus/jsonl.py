"""JSON Lines: a row is a line that is not blank. One that is no JSON object is a bad row, not the end of a file."""

from __future__ import annotations

import itertools
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from actors.corpus.base import Rows, Survey
from actors.corpus.content import Content
from actors.corpus.lines import (
    BYTE_ORDER_MARK,
    SAMPLE_ROWS,
    LineReader,
    index_lines,
    lines_of,
    survey_lines,
    with_compressed,
)
from actors.messages import Columns, SourceFile

T = TypeVar("T")

_all_keys = msgspec.json.Decoder(dict[str, Any])


class JsonlFormat:
    suffixes = with_compressed(".jsonl", ".ndjson")

    def survey(self, path: str) -> Survey:
        return survey_lines(path, index_lines, _sample_types)

    def open(self, file: SourceFile, columns: Columns) -> LineReader[tuple[int, bytes]]:
        return LineReader(file, columns, lines_of, partial(_rows, _only(columns.needed)))


def _only(names: list[str]) -> type[msgspec.Struct]:
    """Holds the values of these keys as `_0`, `_1` …, None where one is missing; nothing is made of the others."""
    fields = [f"_{place}" for place in range(len(names))]
    keys = dict(zip(fields, names, strict=True))
    return msgspec.defstruct("Row", [(field, Any, None) for field in fields], rename=keys)


def _rows(row_type: type[msgspec.Struct], lines: list[tuple[int, bytes]], columns: Columns) -> Rows:
    bad: dict[int, str] = {}
    decoder, missing = msgspec.json.Decoder(row_type), row_type()
    objects = [_object(decoder, line, row, bad) or missing for row, (_, line) in enumerate(lines)]
    values = {name: list(map(attrgetter(f"_{place}"), objects)) for place, name in enumerate(columns.needed)}
    texts = [_text(value, columns.text, row, bad) for row, value in enumerate(values[columns.text])]
    ids = None
    if columns.id is not None:
        ids = _column(values[columns.id], columns.id, columns.id_type, bad)
        for row in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
            bad.setdefault(int(row), f"'{columns.id}' is missing or null")
    keep = tuple(
        _column(values[name], name, type_, bad)
        for name, type_ in zip(columns.keep, columns.keep_types, strict=True)
    )
    return Rows(texts=texts, ids=ids, keep=keep, bad=bad)


def _object(decoder: msgspec.json.Decoder[T], line: bytes, row: int, bad: dict[int, str]) -> T | None:
    try:
        return decoder.decode(line.removeprefix(BYTE_ORDER_MARK))
    except msgspec.ValidationError:
        bad[row] = f"not a JSON object: {line[:40].decode(errors='replace').strip()}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        bad[row] = f"not JSON: {error}"
    return None


def _text(value: Any, column: str, row: int, bad: dict[int, str]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    bad[row] = f"'{column}' is {type(value).__name__}, not text"
    return None


def _column(values: list[Any], name: str, type_: pa.DataType, bad: dict[int, str]) -> pa.Array:
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


def _sample_types(content: Content) -> dict[str, pa.DataType]:
    """Types of the keys of the first objects; where values do not agree, text holds them all."""
    objects = [
        _object(_all_keys, line, 0, {}) or {} for _, line in itertools.islice(lines_of(content, 0), SAMPLE_ROWS)
    ]
    types: dict[str, pa.DataType] = {}
    for name in dict.fromkeys(key for each in objects for key in each):
        types[name] = _common_type([each.get(name) for each in objects])
    return types


def _common_type(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.string()

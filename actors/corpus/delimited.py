"""CSV and TSV: the first row names the columns, and a quoted field may hold newlines: a row may be many lines.

Columns are strings, or numbers where all values of the first rows are. A row with another number of fields than the
header, or with quotes that do not add up, is a bad row, never the end of the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.corpus.base import Rows, Survey
from actors.corpus.content import Content
from actors.corpus.lines import SAMPLE_ROWS, STRIDE, LineReader, Starts, survey_lines, with_compressed
from actors.corpus.records import OPEN_QUOTE, Record, records_of
from actors.messages import Columns, SourceFile

_MOST_OPEN_QUOTES = 100  # the end of each is looked for in many lines
# As numbers are written back, so that reading them as such changes nothing: 007 and 1E5 are names for all we know.
_WHOLE = "^(0|-?[1-9][0-9]*)$"
_BROKEN = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


class DelimitedFormat:
    """`delimiter` parts the fields; where it is a comma and the header has semicolons only, those do."""

    def __init__(self, delimiter: str, *endings: str) -> None:
        self._delimiter = delimiter
        self.suffixes = with_compressed(*endings)

    def survey(self, path: str) -> Survey:
        return survey_lines(path, self._index, self._sample_types, all_text=True)

    def open(self, file: SourceFile, columns: Columns) -> LineReader[Record]:
        with closing(Content(file.path)) as content:
            delimiter = self._delimiter_of(content)
            header = next(records_of(content, 0, delimiter), Record(0, 0))
        records = partial(records_of, delimiter=delimiter)
        return LineReader(file, columns, records, partial(_rows, list(header.fields)))

    def _delimiter_of(self, content: Content) -> str:
        first = content.peek().split(b"\n", 1)[0]
        return ";" if self._delimiter == "," and b"," not in first and b";" in first else self._delimiter

    def _index(self, content: Content, starts: Starts) -> int:
        records = records_of(content, 0, self._delimiter_of(content))
        next(records, None)
        rows = open_quotes = 0
        for rows, record in enumerate(records, 1):
            if (rows - 1) % STRIDE == 0:
                starts.note(rows - 1, record.line - 1, record.at)
            open_quotes += record.flaw == OPEN_QUOTE
            if open_quotes > _MOST_OPEN_QUOTES:
                raise OSError(f"by line {record.line:,}, {open_quotes} quotes were opened and never closed")
        return rows

    def _sample_types(self, content: Content) -> dict[str, pa.DataType]:
        records = records_of(content, 0, self._delimiter_of(content))
        header = next(records, Record(0, 0))
        if header.flaw:
            raise OSError(f"its first row, which names the columns, cannot be read: {header.flaw}")
        names = [name for name in header.fields if name]
        if twice := [name for name in names if names.count(name) > 1]:
            raise OSError(f"two columns are called '{twice[0]}'; rename one of them")
        rows = [each.fields for each in itertools.islice(records, SAMPLE_ROWS)]
        rows = [fields for fields in rows if len(fields) == len(header.fields)]
        return {
            name: _common_type([fields[place] for fields in rows])
            for place, name in enumerate(header.fields)
            if name
        }


def _common_type(values: Sequence[str]) -> pa.DataType:
    """The narrowest type that says all that these values say; null where they are all empty."""
    filled = [value for value in values if value]
    if not filled:
        return pa.null()
    for type_ in (pa.int64(), pa.float64()):
        if _as_numbers(filled, type_) is not None:
            return type_
    return pa.string()


def _as_numbers(values: Sequence[str | None], type_: pa.DataType) -> pa.Array | None:
    """None where one of them is no number as `type_` writes it."""
    try:
        array = pa.array(values, pa.string())
        written = pc.match_substring_regex(array, _WHOLE if pa.types.is_integer(type_) else _BROKEN)
        return array.cast(type_) if pc.all(written).as_py() in (True, None) else None
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None


def _rows(header: list[str], records: list[Record], columns: Columns) -> Rows:
    bad: dict[int, str] = {}
    for row, record in enumerate(records):
        if record.flaw:
            bad[row] = record.flaw
        elif len(record.fields) != len(header):
            bad[row] = f"{len(record.fields)} fields, but the header has {len(header)}"
    values = {name: _values(records, header.index(name), name, bad) for name in columns.needed}
    ids = None
    if columns.id is not None:
        ids = _column(values[columns.id], columns.id, columns.id_type, bad)
        for row, value in enumerate(values[columns.id]):
            if not value:
                bad.setdefault(row, f"'{columns.id}' is empty")
    keep = tuple(
        _column(values[name], name, type_, bad)
        for name, type_ in zip(columns.keep, columns.keep_types, strict=True)
    )
    return Rows(texts=values[columns.text], ids=ids, keep=keep, bad=bad)


def _values(records: list[Record], place: int, name: str, bad: dict[int, str]) -> list[str | None]:
    """One field of each record; None in bad rows."""
    values: list[str | None] = []
    for row, record in enumerate(records):
        value = None if row in bad else record.fields[place]
        if value and record.broken:
            try:
                value.encode()
            except UnicodeEncodeError:
                bad[row] = f"'{name}' is not valid UTF-8"
                value = None
        values.append(value)
    return values


def _column(values: list[str | None], name: str, type_: pa.DataType, bad: dict[int, str]) -> pa.Array:
    if pa.types.is_string(type_):
        return pa.array(values, type_)
    filled = [value or None for value in values]
    array = _as_numbers(filled, type_)
    if array is not None:
        return array
    for row, value in enumerate(filled):
        if value is not None and _as_numbers([value], type_) is None:
            bad[row] = f"'{name}' is {value[:40]!r}, not {type_} as in the first rows"
            filled[row] = None
    return pa.array(filled, pa.string()).cast(type_)

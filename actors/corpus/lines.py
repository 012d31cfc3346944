"""Files of lines: one pass counts the rows and notes where reading can start; then only what is asked for is read.

Shared by the formats whose rows are lines or runs of lines, plain or compressed. An empty line is no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.corpus.base import Rows, Survey
from actors.corpus.compression import COMPRESSED
from actors.corpus.content import LONGEST_LINE, Content
from actors.errors import FAILED, UserError
from actors.messages import Columns, Part, SourceFile

Numbered = TypeVar("Numbered", bound=tuple[Any, ...])

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STRIDE = 1024  # rows between two places where reading can start
SAMPLE_ROWS = 1000  # from which the columns and their types are told
_BLOCK = 4 << 20
_NEWLINE, _RETURN = 10, 13


def with_compressed(*endings: str) -> tuple[str, ...]:
    """These endings of file names, plain and with each compression after them."""
    return tuple(ending + compressed for ending in endings for compressed in ("", *COMPRESSED))


class Starts:
    """Collects the places where reading can start, one every `STRIDE` rows."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._places: list[tuple[int, int, int, int]] = []

    def note(self, row: int, line: int, at: int) -> None:
        """Row `row`, with `line` lines before it, begins `at` bytes of content from the beginning."""
        self._places.append((row, line, *self._content.place(at)))

    def table(self) -> npt.NDArray[np.int64]:
        """int64[n, 4], each row in the order of `Start`."""
        return np.array(self._places or [(0, 0, 0, 0)], np.int64)


def survey_lines(
    path: str,
    index: Callable[[Content, Starts], int],
    sample: Callable[[Content], dict[str, pa.DataType]],
    *,
    all_text: bool = False,
) -> Survey:
    """One pass of `index` over the file, for rows and places, and `sample` of its beginning, for the types."""
    with closing(Content(path)) as beginning:
        types = sample(beginning)
    with closing(Content(path, summed=True)) as content:
        starts = Starts(content)
        rows = index(content, starts)
        return Survey(rows, content.size, content.checksum, types, starts.table(), all_text)


def index_lines(content: Content, starts: Starts) -> int:
    """The number of lines of `content` that hold something. Raises OSError when one is too long to be a row."""
    rows = lines = position = held = 0
    carry: list[bytes] = []  # the start of a line whose end is in a later block
    starts.note(0, 0, 0)
    while block := content.read(_BLOCK):
        carry.append(block)
        held += len(block)
        if b"\n" not in block:
            if held > LONGEST_LINE:
                raise OSError(f"line {lines + 1:,} is longer than {LONGEST_LINE >> 20} MiB; a row has to be a line")
            continue
        data = b"".join(carry)
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
        begins = np.concatenate([[0], ends[:-1] + 1])
        kept = np.flatnonzero(_holds_something(data, begins, ends))
        for k in range(-rows % STRIDE, len(kept), STRIDE):
            if rows + k:
                starts.note(rows + k, lines + int(kept[k]), position + int(begins[kept[k]]))
        rows += len(kept)
        lines += len(ends)
        carry = [data[int(ends[-1]) + 1 :]]
        held = len(carry[0])
        position += int(ends[-1]) + 1
    return rows + (b"".join(carry) not in (b"", b"\r"))


def _holds_something(
    data: bytes, begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    lengths = ends - begins
    first = np.frombuffer(data, np.uint8)[begins]
    blank: npt.NDArray[np.bool_] = (lengths == 0) | ((lengths == 1) & (first == _RETURN))
    return ~blank


def lines_of(content: Content, line: int) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each line that holds something, from where `content` is; `line` lines are before it.

    Numbers begin at 1.
    """
    while data := content.readline():
        line += 1
        if data not in (b"\n", b"\r\n"):
            yield line, data


class LineReader(Generic[Numbered]):
    """Reads rows that `records` finds and `parse` understands; the first item of each is the number of its line."""

    def __init__(
        self,
        file: SourceFile,
        columns: Columns,
        records: Callable[[Content, int], Iterator[Numbered]],
        parse: Callable[[list[Numbered], Columns], Rows],
    ) -> None:
        self._name = file.name
        self._columns = columns
        self._new_records = records
        self._parse = parse
        self._content = Content(file.path)
        self._records: Iterator[Numbered] = iter(())
        self._row = -1  # of the next record; -1: nowhere yet

    def read(self, part: Part) -> Rows:
        start = part.start
        if not start.row <= self._row <= part.offset:
            self._content.go(start.byte, start.skip)
            self._records = self._new_records(self._content, start.line)
            self._row = start.row
        while self._row < part.offset:
            self._next()
        records = [self._next() for _ in range(part.rows)]
        rows = self._parse(records, self._columns)
        rows.bad = {row: f"line {records[row][0]}: {why}" for row, why in rows.bad.items()}
        return rows

    def close(self) -> None:
        self._content.close()

    def _next(self) -> Numbered:
        record = next(self._records, None)
        if record is None:
            raise UserError(f"{self._name} ends at row {self._row}: it changed since the job began", FAILED)
        self._row += 1
        return record

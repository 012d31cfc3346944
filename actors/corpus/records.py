"""Lines -> records of delimited text, by the rules of the `csv` module; no bad line takes others with it.

Where the quotes of a record do not add up, its first line alone is bad, and reading goes on with the next line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from actors.corpus.content import Content
from actors.corpus.lines import BYTE_ORDER_MARK

_LONGEST = 64 << 20  # bytes of a record; a quote that is open for longer was never meant
_BLOCK = 256 << 10  # bytes of lines parsed in one go
OPEN_QUOTE = "a quote is opened and never closed"

csv.field_size_limit(_LONGEST)  # its own is 128 KiB


class Record(NamedTuple):
    """A row that begins in line `line`, `at` bytes of content into the file: its fields, or why there are none.

    `broken`: some of it is no UTF-8; those bytes are lone surrogates in the fields.
    """

    line: int
    at: int
    fields: Sequence[str] = ()
    flaw: str = ""
    broken: bool = False


class _OpenQuoteError(Exception):
    """The lines so far are more than a record can be."""


def records_of(content: Content, line: int, delimiter: str) -> Iterator[Record]:
    """The records from where `content` is, with `line` lines before it. Lines that hold nothing are none.

    In a TSV, which by its own standard knows no quotes, a line whose quotes do not add up is read as it stands.
    """
    at = content.at
    lines: Sequence[bytes] = ()
    while lines := lines or content.readlines(_BLOCK):
        ends = list(accumulate(map(len, lines), initial=at))
        reader = csv.reader(_decoded(lines, line), delimiter=delimiter, strict=True)
        done = 0
        try:
            for fields in reader:
                if fields:
                    yield Record(line + done + 1, ends[done], fields)
                done = reader.line_num
            lines = ()
        except (csv.Error, UnicodeDecodeError):  # or only the end of the block, in an open quote
            pass
        line, at = line + done, ends[done]
        if lines:
            careful = _Careful(content, line, lines[done:])
            record = careful.record(at, delimiter)
            if record.fields or record.flaw:
                yield record
            lines = careful.left
            at += careful.taken_bytes
            line = careful.line


def _decoded(lines: Sequence[bytes], line: int) -> Iterator[str]:
    if line == 0:
        lines = [lines[0].removeprefix(BYTE_ORDER_MARK), *lines[1:]]
    return map(bytes.decode, lines)


class _Careful:
    """Reads one record that has something wrong, or ends further on. `left` are lines to be read again."""

    def __init__(self, content: Content, line: int, lines: Sequence[bytes]) -> None:
        self._content = content
        self._lines = deque(lines)
        self.line = line  # lines before the next
        self._given: list[bytes] = []
        self.taken_bytes = 0
        self._broken = False

    @property
    def left(self) -> Sequence[bytes]:
        return list(self._lines)

    def record(self, at: int, delimiter: str) -> Record:
        """The record that begins here, `at` bytes into the file; without fields and flaw it is none."""
        line = self.line + 1
        try:
            fields = next(csv.reader(self, delimiter=delimiter, strict=True), ())
            return Record(line, at, fields, broken=self._broken)
        except (csv.Error, _OpenQuoteError) as error:
            self._back_to_second()
            if delimiter == "\t":
                text = self._given[0].rstrip(b"\r\n").decode(errors="surrogateescape")
                return Record(line, at, text.split(delimiter), broken=self._broken)
            unclosed = isinstance(error, _OpenQuoteError) or "unexpected end" in str(error)
            return Record(line, at, flaw=OPEN_QUOTE if unclosed else f"not CSV: {error}")

    def _back_to_second(self) -> None:
        others = self._given[1:]
        self._lines.extendleft(reversed(others))
        self.line -= len(others)
        self.taken_bytes -= sum(map(len, others))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._lines.popleft() if self._lines else self._content.readline()
        if not raw:
            raise StopIteration
        if self.taken_bytes > _LONGEST:
            self._lines.appendleft(raw)
            raise _OpenQuoteError
        self._given.append(raw)
        self.taken_bytes += len(raw)
        self.line += 1
        if self.line == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self._broken = True
            return raw.decode(errors="surrogateescape")

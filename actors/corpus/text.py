"""Plain text, a text a line: a row is a line that is not blank, its one column is `text`."""

from __future__ import annotations

import pyarrow as pa

from actors.corpus.base import Rows, Survey
from actors.corpus.content import Content
from actors.corpus.lines import (
    BYTE_ORDER_MARK,
    LineReader,
    index_lines,
    lines_of,
    survey_lines,
    with_compressed,
)
from actors.messages import Columns, SourceFile

TEXT = "text"


class TextFormat:
    suffixes = with_compressed(".txt")

    def survey(self, path: str) -> Survey:
        return survey_lines(path, index_lines, _types)

    def open(self, file: SourceFile, columns: Columns) -> LineReader[tuple[int, bytes]]:
        return LineReader(file, columns, lines_of, _rows)


def _types(_: Content) -> dict[str, pa.DataType]:
    return {TEXT: pa.string()}


def _rows(lines: list[tuple[int, bytes]], columns: Columns) -> Rows:
    texts: list[str | None] = []
    bad: dict[int, str] = {}
    for row, (_, line) in enumerate(lines):
        raw = line.removesuffix(b"\n").removesuffix(b"\r").removeprefix(BYTE_ORDER_MARK)
        try:
            texts.append(raw.decode())
        except UnicodeDecodeError:
            texts.append(None)
            bad[row] = "not valid UTF-8"
    return rows_of_one_column(texts, columns, bad)


def rows_of_one_column(texts: list[str | None], columns: Columns, bad: dict[int, str]) -> Rows:
    """Rows of a file whose texts are all there is: what else is asked for can only be the text itself."""
    array = pa.array(texts, pa.string())
    return Rows(texts=texts, ids=array if columns.id else None, keep=(array,) * len(columns.keep), bad=bad)

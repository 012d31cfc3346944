"""Plain text, a text a file: many small files stand as one, each of them a row.

Columns are `text` and `file`, the name of the row's file below the folder that holds the whole input.
"""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pyarrow as pa

from actors.corpus.base import NO_CHECKPOINTS, Rows, Survey
from actors.corpus.content import LONGEST_LINE, Content
from actors.corpus.lines import BYTE_ORDER_MARK
from actors.corpus.storage import bare, reason
from actors.corpus.text import TEXT
from actors.errors import UserError
from actors.messages import Columns, Part, SourceFile

FILE = "file"
MEMBERS = 1024  # the most files that stand as one
_BLOCK = 4 << 20
_AT_ONCE = 16  # files opened, where opening is a round trip


class DocumentsFormat:
    suffixes = ()  # the files are those of plain text; a setting tells which of the two is meant

    def survey(self, path: str) -> Survey:
        return self.survey_all((path,))

    def survey_all(self, members: Sequence[str]) -> Survey:
        """One pass over files that stand as one. Raises UserError naming the one that cannot be read."""
        folder = posixpath.dirname(members[0])
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(_sum_up, members))
        names = [posixpath.relpath(bare(member), bare(folder)) for member in members]
        told = "\n".join(f"{name} {checksum}" for name, (_, checksum) in zip(names, found, strict=True))
        return Survey(
            rows=len(members),
            size=sum(size for size, _ in found),
            fingerprint=f"{zlib.crc32(told.encode(errors='surrogateescape')):08x}",
            types={TEXT: pa.string(), FILE: pa.string()},
            checkpoints=NO_CHECKPOINTS,
        )

    def open(self, file: SourceFile, columns: Columns) -> DocumentsReader:
        return DocumentsReader(file, columns)


class DocumentsReader:
    def __init__(self, file: SourceFile, columns: Columns) -> None:
        self._columns = columns
        self._members = file.members or (file.path,)
        self._above = len(bare(self._members[0])) - len(file.name)  # characters before a name
        self._pool = ThreadPoolExecutor(_AT_ONCE, "documents")

    def read(self, part: Part) -> Rows:
        members = self._members[part.offset : part.offset + part.rows]
        bad: dict[int, str] = {}
        texts: list[str | None] = []
        for row, content in enumerate(self._pool.map(_read, members)):
            texts.append(_text(content, row, bad))
        names = [bare(member)[self._above :] for member in members]
        columns = {TEXT: pa.array(texts, pa.string()), FILE: pa.array(names, pa.string())}
        for row, why in bad.items():
            bad[row] = f"{names[row]}: {why}"
        ids = columns[self._columns.id] if self._columns.id else None
        return Rows(texts=texts, ids=ids, keep=tuple(columns[name] for name in self._columns.keep), bad=bad)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _read(path: str) -> bytes:
    """The whole of a file; of one that is too long for a text, a byte more than a text may have."""
    try:
        with closing(Content(path)) as content:
            return content.read(LONGEST_LINE + 1)
    except OSError as error:
        raise _named(path, error) from error


def _sum_up(path: str) -> tuple[int, str]:
    """Size and checksum of a file as stored."""
    try:
        with closing(Content(path, summed=True)) as content:
            while content.read(_BLOCK):
                pass
            return content.size, content.checksum
    except OSError as error:
        raise _named(path, error) from error


def _named(path: str, error: OSError) -> UserError:
    return UserError(f"input {bare(path)} cannot be read: {reason(error)}")


def _text(content: bytes, row: int, bad: dict[int, str]) -> str | None:
    if len(content) > LONGEST_LINE:
        bad[row] = f"longer than {LONGEST_LINE >> 20} MiB"
        return None
    try:
        return content.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        bad[row] = "not valid UTF-8"
        return None

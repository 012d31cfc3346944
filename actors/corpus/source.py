"""An input file, looked at by the plan and opened later: it has to be the same file then, and while it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from actors.corpus import FORMATS, Reader, Rows, Survey
from actors.corpus.documents import DocumentsFormat
from actors.corpus.storage import scheme_of, version
from actors.errors import FAILED, UserError
from actors.messages import Columns, Part, SourceFile

_AT_ONCE = 16  # looks at files, where one is a round trip


def look_at(format_: str, path: str, members: Sequence[str] = ()) -> Survey:
    """The survey of a file, or of `members` that stand as one. Raises OSError or UserError if it cannot be read."""
    return DocumentsFormat().survey_all(members) if members else FORMATS[format_].survey(path)


def version_of(path: str, members: Sequence[str] = ()) -> str:
    """`SourceFile.version` as it is now. Raises OSError when a file is gone."""
    if not members:
        return version(path)
    if scheme_of(path) is None:
        versions = list(map(version, members))
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            versions = list(pool.map(version, members))
    return hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16]


def open_source(file: SourceFile, columns: Columns) -> Reader:
    """A reader of a file as it was planned. Raises UserError naming it when it changed, OSError when it is gone."""
    return _Watched(file, columns)


class _Watched:
    """Looks again after each part whether the file is still the one that was planned.

    A file that only looks different, as one that was copied to each node does, is read through once more.
    """

    def __init__(self, file: SourceFile, columns: Columns) -> None:
        self._file = file
        self._version = file.version
        self._check()
        self._reader = FORMATS[file.format].open(file, columns)

    def read(self, part: Part) -> Rows:
        rows = self._reader.read(part)
        if not (self._file.members and scheme_of(self._file.path)):  # each member would be a round trip
            self._check()
        return rows

    def close(self) -> None:
        self._reader.close()

    def _check(self) -> None:
        file = self._file
        now = version_of(file.path, file.members)
        if now == self._version:
            return
        try:
            same = look_at(file.format, file.path, file.members).fingerprint == file.fingerprint
        except UserError:  # not even of this format any more
            same = False
        if not same:
            raise UserError(f"input {file.name} changed since the job began", FAILED)
        self._version = now

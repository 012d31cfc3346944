"""What is to be done: input files, cut into parts."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file as the plan saw it.

    `path` is a local path or a URL. `name` is relative to the folder that holds the whole input, so that moving the
    input changes nothing; `fingerprint` changes when the content does. `version` tells cheaply, within a run, that
    the file may have changed: what the storage says of it (time, ETag). `members` are the paths of small files that
    stand here as one, a row each; `path` is the first of them.
    """

    path: str
    name: str
    format: str
    rows: int
    size: int
    fingerprint: str
    version: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the input are read, and the Arrow types that their values have in the output.

    `id` None means that a row's id is its 0-based position in the input (int64).
    """

    text: str
    id: str | None
    keep: tuple[str, ...]
    id_type: pa.DataType
    keep_types: tuple[pa.DataType, ...]

    @property
    def needed(self) -> list[str]:
        """The names to project, each once, in a stable order."""
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.keep]))


@dataclass(frozen=True, slots=True)
class Start:
    """Where a file that cannot address its rows can be read from.

    Row `row` begins `skip` bytes of content after the place `byte` of the file, with `line` lines before it. In a
    compressed file `byte` is where a frame begins and `skip` counts what comes out of it; else `skip` is 0.
    """

    row: int = 0
    line: int = 0
    byte: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A run of rows of one input file that becomes one output file called `name`.

    `offset` is the first row within the file, `first_row` its position in the whole input. Where a format
    cannot address rows, reading starts at `start`.
    """

    index: int
    name: str
    offset: int
    first_row: int
    rows: int
    start: Start = Start()

"""Input paths -> the files, rows and columns that a plan is made of. Looks at each file once."""

from __future__ import annotations

import io
import itertools
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus import FORMATS, Survey
from actors.corpus.documents import MEMBERS
from actors.corpus.source import look_at, version_of
from actors.corpus.storage import Entry, bare, find, reason, scheme_of
from actors.errors import UserError
from actors.ids import is_id_type
from actors.messages import Columns, SourceFile
from actors.output.store import Place

_MEMBERS_BYTES = 64 << 20  # of small files that stand as one: a part of them is held in memory
_LOOKS_AT_ONCE = 16  # a look into an object store is a few round trips


@dataclass(frozen=True)
class Listing:
    """The input as found: files in sorted order, what of them is read, and where reading can start."""

    files: tuple[SourceFile, ...]
    columns: Columns
    checkpoints: tuple[npt.NDArray[np.int64], ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """What one `SourceFile` is made of: a file, or `members` that stand as one."""

    format: str
    path: str
    members: tuple[str, ...] = ()


def list_input(
    inputs: Sequence[str],
    out: Place,
    text: str,
    id_column: str | None,
    keep: Sequence[str],
    whole_text_files: bool = False,
) -> Listing:
    """Find and survey the input. Raises UserError for a missing path, an unknown format, a missing column.

    A folder means every file below it that has a known ending and no name on the way starting with `_` or `.`;
    the output folder `out` is never input, also when it lies in an input folder. `whole_text_files`: a file of
    plain text is one text; else each of its lines is.
    """
    sources = list(_sources(_find(inputs, out), whole_text_files))
    names = _names([path for source in sources for path in source.members or (source.path,)])
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        looks = list(pool.map(_look, sources))
    files = tuple(
        SourceFile(
            *(source.path, names[source.path], source.format, survey.rows, survey.size, survey.fingerprint),
            version=version,
            members=source.members,
        )
        for source, (version, survey) in zip(sources, looks, strict=True)
    )
    if not any(file.rows for file in files):
        raise UserError(f"the input has no rows: {', '.join(map(bare, inputs))}")
    surveys = [survey for _, survey in looks]
    columns = _columns(files, surveys, text, id_column, tuple(keep))
    return Listing(files, columns, tuple(each.checkpoints for each in surveys))


def _find(inputs: Sequence[str], out: Place) -> list[Entry]:
    """Files in sorted order, each once."""
    entries: dict[str, Entry] = {}
    for given in inputs:
        try:
            found = find(given)
        except OSError as error:
            raise UserError(f"input {bare(given)} cannot be read: {reason(error)}") from error
        if found is None:
            raise UserError(f"input not found: {bare(given)}")
        wanted = [*found.named, *(entry for entry in found.below if _format_by_name(entry.path))]
        if not wanted:
            raise UserError(f"no corpus file in folder {given}: looked for {_endings()}")
        entries.update((entry.path, entry) for entry in wanted)
    by_file = {_real(path): entries[path] for path in sorted(entries, reverse=True)}
    own = _real(str(out))
    outside = [entry for file, entry in by_file.items() if not file.startswith(f"{own}/")]
    if not outside:
        raise UserError(f"the input is the output folder {out}; choose another -o")
    return sorted(outside, key=lambda entry: entry.path)


def _real(path: str) -> str:
    return path if scheme_of(path) else os.path.realpath(path)


def _sources(entries: Iterable[Entry], whole_text_files: bool) -> Iterator[_Source]:
    for format_, group in itertools.groupby(entries, lambda entry: _format_of(entry.path)):
        if format_ == "text" and whole_text_files:
            yield from (_Source("documents", members[0], members) for members in _together(group))
        else:
            yield from (_Source(format_, entry.path) for entry in group)


def _together(entries: Iterable[Entry]) -> Iterator[tuple[str, ...]]:
    """Runs of small files that stand as one."""
    members: list[str] = []
    held = 0
    for entry in entries:
        if members and (len(members) == MEMBERS or held + entry.size > _MEMBERS_BYTES):
            yield tuple(members)
            members, held = [], 0
        members.append(entry.path)
        held += entry.size
    yield tuple(members)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """By path: relative to the folder that holds them all; where there is none, as for two buckets, as it is."""
    plain = [bare(path) for path in paths]
    if all(scheme_of(path) is None for path in plain):
        root = os.path.commonpath([str(Path(path).parent) for path in plain])
        names = [os.path.relpath(path, root) for path in plain]
    elif len({path.split("/")[2] if scheme_of(path) else "" for path in plain}) > 1:
        names = plain
    else:
        root = posixpath.commonpath([posixpath.dirname(path) for path in plain])
        names = [posixpath.relpath(path, root) for path in plain]
    return dict(zip(paths, names, strict=True))


def _look(source: _Source) -> tuple[str, Survey]:
    """The version is of before the survey: a file that changes meanwhile is found out when it is opened."""
    try:
        version = version_of(source.path, source.members)
        return version, look_at(source.format, source.path, source.members)
    except OSError as error:
        raise UserError(f"input {bare(source.path)} cannot be read: {reason(error)}") from error


def _format_by_name(path: str) -> str | None:
    name = bare(path).lower()
    return next((format_ for format_, each in FORMATS.items() if name.endswith(each.suffixes)), None)


def _endings() -> str:
    return ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)


def _format_of(path: str) -> str:
    format_ = _format_by_name(path)
    if format_ is None:
        raise UserError(f"cannot tell the format of {bare(path)} by its name: known endings are {_endings()}")
    return format_


def _columns(
    files: Sequence[SourceFile],
    surveys: Sequence[Survey],
    text: str,
    id_column: str | None,
    keep: tuple[str, ...],
) -> Columns:
    filled = [(file, survey) for file, survey in zip(files, surveys, strict=True) if file.rows]
    _check_text(filled, text)
    for name in keep:
        if name in ("id", "embedding"):
            raise UserError(
                f"--keep {name}: the output has a column of its own by that name; rename it in the input"
            )
    id_type = pa.int64() if id_column is None else _id_type(filled, id_column)
    return Columns(text, id_column, keep, id_type, tuple(_kept_type(filled, name) for name in keep))


def _check_text(filled: Iterable[tuple[SourceFile, Survey]], text: str) -> None:
    for file, survey in filled:
        type_ = _type_in(file, survey, text, "--text-column")
        if not (_is_text(type_) or pa.types.is_null(type_) or survey.all_text):
            raise UserError(f"--text-column {text} in {file.name} holds {type_}, not text")


def _id_type(filled: Sequence[tuple[SourceFile, Survey]], name: str) -> pa.DataType:
    type_ = _agreed_type(filled, name, "--id-column")
    if not is_id_type(type_):
        raise UserError(f"--id-column {name} holds {type_}; an id is a whole number, a string or a UUID")
    return type_


def _agreed_type(filled: Sequence[tuple[SourceFile, Survey]], name: str, option: str) -> pa.DataType:
    """The one type that a column has in every file; text types count as one, a column of nulls as any.

    A file that knows only strings follows the others; where such files differ, text holds them all.
    """
    first: tuple[str, pa.DataType] | None = None
    typed = not all(survey.all_text for _, survey in filled)
    for file, survey in sorted(filled, key=lambda each: each[1].all_text):
        type_ = _type_in(file, survey, name, option)
        type_ = pa.string() if _is_text(type_) else type_
        if pa.types.is_null(type_):
            continue
        if first is None:
            first = file.name, type_
        elif type_.equals(first[1]):
            continue
        elif survey.all_text and (wider := _wider(first[1], type_, typed)):
            first = first[0], wider
        else:
            raise UserError(
                f"{option} {name} is {first[1]} in {first[0]} but {type_} in {file.name}; convert one of them"
            )
    return first[1] if first else pa.string()


def _wider(agreed: pa.DataType, seen: pa.DataType, typed: bool) -> pa.DataType | None:
    """What holds `agreed` and strings that look like `seen`. `typed`: some file says what `agreed` has to be."""
    if pa.types.is_string(agreed):
        return agreed
    if pa.types.is_integer(seen) and (pa.types.is_integer(agreed) or pa.types.is_floating(agreed)):
        return agreed
    if pa.types.is_floating(seen) and pa.types.is_floating(agreed):
        return agreed
    if typed:
        return None
    return seen if pa.types.is_floating(seen) else pa.string()


def _kept_type(filled: Sequence[tuple[SourceFile, Survey]], name: str) -> pa.DataType:
    type_ = _agreed_type(filled, name, "--keep")
    try:
        pq.ParquetWriter(io.BytesIO(), pa.schema([(name, type_)])).close()
    except pa.ArrowException as error:
        raise UserError(f"--keep {name} is {type_}, which Parquet cannot hold; leave it out") from error
    return type_


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _type_in(file: SourceFile, survey: Survey, name: str, option: str) -> pa.DataType:
    try:
        return survey.types[name]
    except KeyError:
        columns = ", ".join(survey.types) or "none"
        raise UserError(f"{option} {name} is not in {file.name}; its columns are: {columns}") from None

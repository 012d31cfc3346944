"""Input paths -> the files, rows and columns that a plan is made of. Looks at each file once."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.corpus import FORMATS, Survey
from actors.errors import UserError
from actors.messages import Columns, SourceFile


@dataclass(frozen=True)
class Listing:
    """The input as found: files in sorted order, what of them is read, and where reading can start."""

    files: tuple[SourceFile, ...]
    columns: Columns
    checkpoints: tuple[npt.NDArray[np.int64], ...]


def list_input(inputs: Sequence[str], out: Path, text: str, id_column: str | None, keep: Sequence[str]) -> Listing:
    """Find and survey the input. Raises UserError for a missing path, an unknown format, a missing column.

    A folder means every file below it that has a known ending and no name on the way starting with `_` or `.`;
    the output folder `out` is never input, also when it lies in an input folder.
    """
    found = [(path, _format_of(path)) for path in _find(inputs, out)]
    surveys = [_survey(path, format_) for path, format_ in found]
    root = os.path.commonpath([str(Path(path).parent) for path, _ in found])
    files = tuple(
        SourceFile(path, os.path.relpath(path, root), format_, each.rows, each.size, each.fingerprint)
        for (path, format_), each in zip(found, surveys, strict=True)
    )
    if not any(file.rows for file in files):
        raise UserError(f"the input has no rows: {', '.join(inputs)}")
    columns = _columns(files, surveys, text, id_column, tuple(keep))
    return Listing(files, columns, tuple(each.checkpoints for each in surveys))


def _find(inputs: Sequence[str], out: Path) -> list[str]:
    """Absolute paths under the names they were given by: a link keeps its own name."""
    paths: set[str] = set()
    for given in inputs:
        path = Path(given).expanduser()
        # Path.glob takes no absolute pattern
        matches = [path] if path.exists() else [Path(each) for each in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        if not matches:
            raise UserError(f"input not found: {given}")
        found = [each for match in matches for each in ([match] if match.is_file() else _below(match))]
        if not found:
            raise UserError(f"no corpus file in folder {given}: looked for {_endings()}")
        paths.update(os.path.abspath(each) for each in found)  # noqa: PTH100 (Path.absolute keeps '..')
    by_file = {os.path.realpath(path): path for path in sorted(paths, reverse=True)}
    own = os.path.realpath(out)
    outside = sorted(path for file, path in by_file.items() if os.path.commonpath([own, file]) != own)
    if not outside:
        raise UserError(f"the input is the output folder {out}; choose another -o")
    return outside


def _below(folder: Path) -> list[Path]:
    found = [each for each in folder.rglob("*") if _ending(str(each)) and each.is_file()]
    return [each for each in found if _visible(each.relative_to(folder))]


def _survey(path: str, format_: str) -> Survey:
    try:
        return FORMATS[format_].survey(path)
    except OSError as error:
        raise UserError(f"input {path} cannot be read: {error.strerror or error}") from error


def _visible(path: Path) -> bool:
    return not any(name.startswith(("_", ".")) for name in path.parts)


def _ending(path: str) -> str | None:
    return next((name for name, each in FORMATS.items() if path.lower().endswith(each.suffixes)), None)


def _endings() -> str:
    return ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes)


def _format_of(path: str) -> str:
    ending = _ending(path)
    if ending is None:
        raise UserError(f"cannot tell the format of {path} by its name: known endings are {_endings()}")
    return ending


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
        if not (_is_text(type_) or pa.types.is_null(type_)):
            raise UserError(f"--text-column {text} in {file.name} holds {type_}, not text")


def _id_type(filled: Sequence[tuple[SourceFile, Survey]], name: str) -> pa.DataType:
    type_ = _agreed_type(filled, name, "--id-column")
    if not (pa.types.is_integer(type_) or pa.types.is_string(type_) or pa.types.is_large_string(type_)):
        raise UserError(f"--id-column {name} holds {type_}; an id is a whole number or a string")
    return type_


def _agreed_type(filled: Sequence[tuple[SourceFile, Survey]], name: str, option: str) -> pa.DataType:
    """The one type that a column has in every file; text types count as one, a column of nulls as any."""
    first: tuple[str, pa.DataType] | None = None
    for file, survey in filled:
        type_ = _type_in(file, survey, name, option)
        type_ = pa.string() if _is_text(type_) else type_
        if pa.types.is_null(type_):
            continue
        if first is None:
            first = file.name, type_
        elif not type_.equals(first[1]):
            raise UserError(f"{option} {name} is {first[1]} in {first[0]} but {type_} in {file.name}")
    return first[1] if first else pa.string()


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

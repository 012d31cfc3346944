"""Input paths -> the files, rows and columns that a plan is made of. Looks at each file once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
    surveys = [FORMATS[format_].survey(path) for path, format_ in found]
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
    paths: set[str] = set()
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            below = [str(each) for each in path.rglob("*") if each.is_file() and _visible(each.relative_to(path))]
            matches = [each for each in below if _ending(each) is not None]
            if not matches:
                raise UserError(f"no corpus file in folder {given}: looked for {_endings()}")
        elif path.is_file():
            matches = [str(path)]
        else:
            found = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
            matches = [each for each in found if Path(each).is_file()]
            if not matches:
                raise UserError(f"input not found: {given}")
        paths.update(os.path.realpath(each) for each in matches)
    own = os.path.realpath(out)
    return sorted(path for path in paths if os.path.commonpath([own, path]) != own)


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
    return Columns(text, id_column, keep, id_type, tuple(_agreed_type(filled, name, "--keep") for name in keep))


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
    """The one type that column has in every file; text types count as one."""
    first_file, first_survey = filled[0]
    first = _plain(_type_in(first_file, first_survey, name, option))
    for file, survey in filled[1:]:
        other = _plain(_type_in(file, survey, name, option))
        if not other.equals(first):
            raise UserError(f"{option} {name} is {first} in {first_file.name} but {other} in {file.name}")
    return first


def _plain(type_: pa.DataType) -> pa.DataType:
    return pa.string() if _is_text(type_) or pa.types.is_null(type_) else type_


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

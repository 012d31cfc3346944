"""One part against what `_run.json` promises of it: its schema, its footer, its ids, its vectors, its rejects."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.ids import id_type_of, plain
from actors.messages import Columns, Part
from actors.output.folder import REJECTS, REJECTS_PROPERTY, RUN_FILE
from actors.output.parts import PART_PROPERTY, PLAN_PROPERTY, part_schema, reject_schema
from actors.output.run_file import fingerprint, plan_of, sink_of
from actors.output.sinks import Sink, StoredPart
from actors.output.sinks.parquet import ParquetPart
from actors.output.store import Place, store_of
from actors.queue.plan import Plan
from jobs.verify_ids import id_at

# What pyarrow raises on bytes that are not Parquet, or no longer
READ_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file of the output; `row` is the 0-based place in it of the first wrong row."""

    file: str
    row: int | None
    what: str

    def __str__(self) -> str:
        place = "" if self.row is None else f" row {self.row}"
        return " ".join(f"{self.file}{place}: {self.what}".splitlines())


@dataclass(frozen=True, slots=True)
class Promise:
    """What `_run.json` says that the parts are. `keep` maps kept columns, in order, to their types in words."""

    plan: Plan
    fingerprint: str
    columns: Columns
    dim: int
    dtype: str
    keep: dict[str, str]
    sink: str


@dataclass(frozen=True, slots=True)
class Norms:
    """Lengths of `vectors` vectors, all finite and not zero."""

    vectors: int
    lowest: float
    highest: float
    total: float

    @property
    def mean(self) -> float:
        return self.total / self.vectors


@dataclass(frozen=True, slots=True)
class PartFound:
    """One part as found. `norms` is of its good vectors; None when it has none.

    `of_run` is false, and nothing is counted, when it cannot be read or is not a part of this run.
    """

    name: str
    problems: tuple[Problem, ...]
    of_run: bool = False
    rows: int = 0
    rejects: int = 0
    norms: Norms | None = None


def promise_of(run: dict[str, Any]) -> Promise:
    """Raises UserError, LookupError, TypeError or ValueError when `run` is not what `identity` made."""
    columns, dim, dtype = run["columns"], run["dim"], run["dtype"]
    if type(dim) is not int or not 0 < dim < 1 << 31 or dtype not in ("float32", "float16"):
        raise ValueError(f"dim {shown(dim)} and dtype {shown(dtype)} are no vectors")
    id_type = id_type_of(columns["id_type"])
    if columns["id"] is None and id_type != pa.int64():
        raise ValueError(f"id_type {id_type} is not that of a position")
    own = Columns(columns["text"], columns["id"], (), id_type, ())
    return Promise(plan_of(run), fingerprint(run), own, dim, dtype, dict(columns["keep"]), sink_of(run))


def check_part(out: Place, sink: Sink, promise: Promise, part: Part, has_rejects: bool) -> PartFound:
    """Read one part and its rejects, and judge both; `has_rejects` says that the reject file is there."""
    table = None
    try:
        with closing(sink.open(part.name)) as file:
            rows, properties = file.rows, file.properties
            wrong = _wrong_run(properties, promise) or _copied(properties, part) or _wrong_schema(file, promise)
            if not wrong and rows <= part.rows:  # more rows than planned may be more than memory
                table = file.read()
    except READ_ERRORS as error:
        return PartFound(part.name, (Problem(part.name, None, f"cannot be read ({first_line(error)})"),))
    if wrong:
        return PartFound(part.name, (Problem(part.name, None, wrong),))
    rejected, problems = _rejects(out, promise, part, properties, has_rejects)
    counted = part.rows - rows if rejected is None else len(rejected)
    if rows + counted != part.rows or counted < 0:
        problems.append(
            Problem(part.name, None, f"{rows:,} rows and {max(0, counted):,} rejects, of {part.rows:,} planned")
        )
    if table is None:
        return PartFound(part.name, tuple(problems))
    ids = plain(_one_array(table, "id"))
    problems += _wrong_ids(ids, rejected, promise.columns, part)
    norms, wrong_vector = _norms(_one_array(table, "embedding"), promise.dim, part.name, ids)
    problems += wrong_vector
    return PartFound(part.name, tuple(problems), True, rows, 0 if rejected is None else len(rejected), norms)


def read_ids(out: Place, sink: Sink, name: str) -> pa.Array:
    """The ids in a part or in a file of rejects. Raises one of READ_ERRORS."""
    with closing(_rejects_file(out, name) if name.startswith(REJECTS) else sink.open(name)) as file:
        return plain(_one_array(file.read(["id"]), "id"))


def _rejects_file(out: Place, name: str) -> StoredPart:
    return ParquetPart(store_of(out), name)


def first_line(error: BaseException) -> str:
    """What went wrong, without Arrow's further lines."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.split("\n", 1)[0] or type(error).__name__


def counted(number: int, what: str) -> str:
    """`2 parts`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shown(value: Any) -> str:
    """A value of the data, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _wrong_run(properties: dict[bytes, bytes], promise: Promise) -> str | None:
    found = properties.get(PLAN_PROPERTY.encode())
    if found is None:
        return f"not a part that rayembed wrote (no {PLAN_PROPERTY} in its footer)"
    if found != promise.fingerprint.encode():
        name = shown(found.decode(errors="replace"))
        return f"of another run ({PLAN_PROPERTY} is {name}, that of {RUN_FILE} is '{promise.fingerprint}')"
    return None


def _copied(properties: dict[bytes, bytes], part: Part) -> str | None:
    """Ids tell it where they are positions; others the input itself may repeat."""
    name = properties.get(PART_PROPERTY.encode(), part.name.encode()).decode(errors="replace")
    return None if name == part.name else f"a copy of {shown(name)}"


def _wrong_schema(file: StoredPart, promise: Promise) -> str | None:
    schema = file.schema
    planned = part_schema(promise.columns, promise.dim, promise.dtype)
    names = [*planned.names, *promise.keep]
    if schema.names != names:
        return f"its columns are {', '.join(schema.names)}; planned are {', '.join(names)}"
    for field in planned:
        if not schema.field(field.name).type.equals(field.type):
            return f"column {field.name} is {schema.field(field.name).type}; planned is {field.type}"
    types = {field.name: str(field.type) for field in file.written}
    for name, type_ in promise.keep.items():
        if types.get(name) != type_:
            return f"column {name} is {types.get(name)}; planned is {type_}"
    return None


def _rejects(
    out: Place, promise: Promise, part: Part, properties: dict[bytes, bytes], has_rejects: bool
) -> tuple[pa.Array | None, list[Problem]]:
    """The ids of the part's rejects; None when that cannot be known, and then why."""
    name = f"{REJECTS}/{part.name}"
    try:
        count = int(properties.get(REJECTS_PROPERTY.encode(), b""))
    except ValueError:
        return None, [Problem(part.name, None, f"no count of rejects in its footer ({REJECTS_PROPERTY})")]
    if not has_rejects:
        if count:
            return None, [Problem(part.name, None, f"{count:,} rejects by its footer, but no file {name}")]
        return plain(pa.array([], promise.columns.id_type)), []
    try:
        with closing(_rejects_file(out, name)) as file:
            rows = file.rows
            if not file.schema.equals(reject_schema(promise.columns)):
                return None, [Problem(name, None, f"its columns are not {reject_schema(promise.columns).names}")]
            if copied := _copied(file.properties, part):
                return None, [Problem(name, None, copied)]
            if rows != count:
                return None, [Problem(name, None, f"{rows:,} rejects; the footer of its part says {count:,}")]
            if rows > part.rows:
                return None, [Problem(name, None, f"{rows:,} rejects of a part of {part.rows:,} rows")]
            return plain(_one_array(file.read(), "id")), []
    except READ_ERRORS as error:
        return None, [Problem(name, None, f"cannot be read ({first_line(error)})")]


def _wrong_ids(ids: pa.Array, rejected: pa.Array | None, columns: Columns, part: Part) -> list[Problem]:
    if ids.null_count:
        row = int(np.flatnonzero(ids.is_null())[0])
        return [Problem(part.name, row, f"its id is null ({ids.null_count:,} such rows)")]
    if rejected is None:
        return []
    if columns.id is None:
        return _wrong_positions(ids.to_numpy(), rejected, part)
    both = np.flatnonzero(pc.is_in(ids, value_set=rejected.drop_null()))
    if len(both):
        row = int(both[0])
        what = f"id {shown(id_at(ids, row))} is embedded and rejected ({len(both):,} such rows)"
        return [Problem(part.name, row, what)]
    return []


def _wrong_positions(ids: npt.NDArray[np.int64], rejected: pa.Array, part: Part) -> list[Problem]:
    """Ids that are positions follow from the plan: every one of the part, in order, less the rejected."""
    name = f"{REJECTS}/{part.name}"
    first, end = part.first_row, part.first_row + part.rows
    if rejected.null_count:
        return [Problem(name, int(np.flatnonzero(rejected.is_null())[0]), "its id is null")]
    places = rejected.to_numpy()
    astray = np.flatnonzero((places < first) | (places >= end))
    if len(astray):
        row = int(astray[0])
        return [Problem(name, row, f"id {places[row]} is not of this part, which is {first} to {end - 1}")]
    due = np.setdiff1d(np.arange(first, end), places)
    if len(due) + len(places) != part.rows:
        order = np.argsort(places, kind="stable")
        row = int(order[1:][np.diff(places[order]) == 0].min())
        return [Problem(name, row, f"id {places[row]} is rejected twice")]
    both = min(len(ids), len(due))
    wrong = np.flatnonzero(ids[:both] != due[:both])
    if len(wrong):
        row = int(wrong[0])
        return [Problem(part.name, row, f"its id is {ids[row]}, due is {due[row]}")]
    return []


def _norms(embedding: pa.Array, dim: int, name: str, ids: pa.Array) -> tuple[Norms | None, list[Problem]]:
    """Of the good vectors, and what is wrong with the first that is not."""
    if embedding.null_count:
        row = int(np.flatnonzero(embedding.is_null())[0])
        return None, [Problem(name, row, f"no embedding ({embedding.null_count:,} such rows)")]
    flat = embedding.flatten()
    if flat.null_count:
        row = int(np.flatnonzero(flat.is_null())[0]) // dim
        return None, [Problem(name, row, f"a null in its embedding ({flat.null_count:,} such elements)")]
    vectors = flat.to_numpy().reshape(-1, dim).astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors).astype(np.float64)
    # One sum a row finds what is not finite or zero; only squares beyond the range of float32 need a closer look
    doubtful = np.flatnonzero(~((squares > 1e-30) & (squares < np.inf)))
    exact = vectors[doubtful].astype(np.float64)
    squares[doubtful] = np.vecdot(exact, exact)
    good = np.isfinite(squares) & (squares > 0)
    wrong = np.flatnonzero(~good)
    problems = []
    if len(wrong):
        row = int(wrong[0])
        what = "is all zeros" if squares[row] == 0 else "is not finite"
        who = shown(id_at(ids, row))
        problems = [Problem(name, row, f"the embedding of id {who} {what} ({len(wrong):,} bad rows)")]
    norms = np.sqrt(squares[good])
    if not len(norms):
        return None, problems
    return Norms(len(norms), float(norms.min()), float(norms.max()), float(norms.sum())), problems


def _one_array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])
    )

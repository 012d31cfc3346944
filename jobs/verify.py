"""`rayembed verify OUT`: is an output whole and right? Needs nothing but the folder, and changes nothing in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.errors import UserError
from actors.output.folder import REJECTS, RUN_FILE, SUMMARY_FILE, part_names
from actors.output.run_file import read_run
from actors.output.sinks import PARQUET, Sink, open_sink
from actors.output.store import Place, read_bytes, store_of
from actors.queue.plan import Plan
from jobs.repeats import repeat_in
from jobs.verify_part import (
    READ_ERRORS,
    Norms,
    PartFound,
    Problem,
    Promise,
    check_part,
    counted,
    first_line,
    promise_of,
    shown,
)

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verification:
    """An output as found. `rows` and `rejects` are counted in the parts that belong to the run and can be read.

    `parts_wrong` of the parts that are there have a problem; parts that are missing are one problem together.
    `notes` are remarks that make nothing wrong.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    parts_planned: int = 0
    parts: int = 0
    parts_wrong: int = 0
    rows_planned: int = 0
    rows: int = 0
    rejects: int = 0
    norms: Norms | None = None
    vectors: str = ""
    mendable: bool = True

    @property
    def ok(self) -> bool:
        """Whole and right."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Folder:
    """Names of files of rejects, and how many hidden left-overs of writers there are."""

    rejects: frozenset[str]
    left_over: int


def verify(out: Place, *, unique_ids: bool = False) -> Verification:
    """Check the output in `out` against its `_run.json`, holding one part at a time.

    Every planned part is there, readable, of this run and of its schema; no other part is. Rows and rejects of a
    part add up to its planned rows. Vectors are finite and not zero. Ids that are positions stand once; those of
    the input may stand more often, as they do there: that is noted, and with `unique_ids` a problem.
    Raises UserError when `out` is not a folder that can be listed.
    """
    try:
        summary = _read_summary(out)  # before the listing: a job that ends meanwhile must not look wrong
        folder = _list(out)
    except OSError as error:
        raise UserError(f"cannot read {out}: {first_line(error)}; name the -o of a run") from error
    promise = _read_promise(out)
    if isinstance(promise, Problem):
        return Verification((promise,))
    plan, sink = promise.plan, open_sink(promise.sink, out)
    visible = sink.visible()
    parts = [
        check_part(out, sink, promise, part, part.name in folder.rejects)
        for part in map(plan.part, range(plan.parts))
        if part.name in visible
    ]
    rows, rejects = sum(part.rows for part in parts), sum(part.rejects for part in parts)
    repeats = _repeats(out, sink, parts, unique_ids) if promise.columns.id is not None else None
    return Verification(
        problems=(
            *_check_names(plan, visible, folder.rejects),
            *(Problem(sink.place("."), None, what) for what in sink.amiss({part.name for part in parts})),
            *_check_summary(summary, None if any(part.problems for part in parts) else rows + rejects),
            *([repeats] if isinstance(repeats, Problem) else []),
            *(problem for part in parts for problem in part.problems),
        ),
        notes=(*_notes(summary, folder), *([repeats] if isinstance(repeats, str) else [])),
        parts_planned=plan.parts,
        parts=len(parts),
        parts_wrong=sum(bool(part.problems) for part in parts),
        rows_planned=plan.rows,
        rows=rows,
        rejects=rejects,
        norms=_together([part.norms for part in parts if part.norms]),
        vectors=f"{promise.dim} x {promise.dtype}",
        mendable=promise.sink == PARQUET,
    )


def in_words(found: Verification) -> str:
    """A line with the counts, then a line for each problem (20 at most), what mends them, and the notes."""
    counts = (
        f"{found.rows:,} rows embedded and {found.rejects:,} rejected of {found.rows_planned:,}, "
        f"in {found.parts:,} of {found.parts_planned:,} parts"
    )
    if found.norms:
        norms = found.norms
        counts += f"; {found.vectors}, norms {norms.lowest:.4g} to {norms.highest:.4g}, mean {norms.mean:.4g}"
    lines = [f"{'OK' if found.ok else 'NOT OK'}: {counts}", *map(str, found.problems[:_SHOWN])]
    if len(found.problems) > _SHOWN:
        lines.append(f"… and {len(found.problems) - _SHOWN:,} more")
    if found.parts_wrong and found.mendable:
        lines.append(
            f"to mend a damaged part ({found.parts_wrong:,} of them): delete it and the file of its name in "
            f"{REJECTS}, then run the same command again; that does only what is missing"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def _list(out: Place) -> _Folder:
    names, rejects = set(store_of(out).names()), set(store_of(out).names(REJECTS))
    if not names:
        raise FileNotFoundError("nothing is there")
    hidden = [name for name in (*names, *rejects) if name.startswith(".") and name.endswith(".tmp")]
    return _Folder(
        rejects=frozenset(name for name in rejects if name[0] not in "._"),
        left_over=len(hidden),
    )


def _read_promise(out: Place) -> Promise | Problem:
    try:
        run = read_run(out)
        if run is None:
            what = f"missing, beside {counted(len(part_names(out)), 'part')}: not the output of a run"
            return Problem(RUN_FILE, None, what)
        return promise_of(run)
    except (UserError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        cause = error.__cause__ or error
        reason = f"{type(cause).__name__}: {first_line(cause)}"
    return Problem(RUN_FILE, None, f"cannot be read ({reason}), so that nothing here can be checked against it")


def _read_summary(out: Place) -> bytes | None:
    """None when it is not there; nothing in it when it cannot be read."""
    try:
        return read_bytes(store_of(out), SUMMARY_FILE)
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _check_names(plan: Plan, visible: set[str], rejects: frozenset[str]) -> list[Problem]:
    """Parts that should be there and are not, and the other way round."""
    problems = []
    planned = [plan.part(index).name for index in range(plan.parts)]
    missing = [index for index, name in enumerate(planned) if name not in visible]
    if missing:
        rows = plan.rows_of(np.array(missing, np.int64))
        what = (
            f"the first of {counted(len(missing), 'missing part')} of {plan.parts:,}, with {counted(rows, 'row')}; "
            "run the same command again (or without --batch)"
        )
        problems.append(Problem(planned[missing[0]], None, what))
    for strays, prefix, what in (
        (visible.difference(planned), "", f"not a part of this run ({RUN_FILE})"),
        (rejects.difference(planned), f"{REJECTS}/", "rejects of no part of this run"),
    ):
        if strays:
            more = f", and {len(strays) - 1:,} more" if len(strays) > 1 else ""
            problems.append(Problem(prefix + min(strays), None, f"{what}{more}; move it away"))
    return problems


def _check_summary(summary: bytes | None, rows: int | None) -> list[Problem]:
    """`rows` are those here, rejects among them; None when damage keeps them from being counted."""
    if summary is None:
        return []
    try:
        said = json.loads(summary)
        if not isinstance(said, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        return [Problem(SUMMARY_FILE, None, f"cannot be read ({first_line(error)}); run the same command again")]
    if rows is not None and said.get("complete") is True and said.get("rows_total") != rows:
        what = f"says complete, with rows_total {shown(said.get('rows_total'))}; here are {rows:,}"
        return [Problem(SUMMARY_FILE, None, what)]
    return []


def _repeats(out: Place, sink: Sink, parts: Sequence[PartFound], unique_ids: bool) -> Problem | str | None:
    """A note, or with `unique_ids` a problem."""
    names = [
        name
        for part in parts
        if part.of_run
        for name in (part.name, *([f"{REJECTS}/{part.name}"] if part.rejects else []))
    ]

    try:
        repeat = repeat_in(out, sink, names, sum(part.rows + part.rejects for part in parts))
    except READ_ERRORS as error:
        return Problem(str(out), None, f"changed while it was read ({first_line(error)}); verify it again")
    if repeat is None:
        return None
    what = (
        f"id {shown(repeat.value)} is also in {repeat.first_file} row {repeat.first_row}; so in the input, where "
        f"{counted(repeat.count, 'row')} repeat an earlier id"
    )
    found = Problem(repeat.file, repeat.row, what)
    return found if unique_ids else str(found)


def _notes(summary: bytes | None, folder: _Folder) -> tuple[str, ...]:
    notes = []
    if summary is None:
        notes.append(f"no {SUMMARY_FILE}: the job has not ended yet, or was cut off")
    if folder.left_over:
        notes.append(f"{counted(folder.left_over, 'hidden file')} of a writer that is at work or was cut off")
    return tuple(notes)


def _together(norms: Sequence[Norms]) -> Norms | None:
    if not norms:
        return None
    return Norms(
        vectors=sum(each.vectors for each in norms),
        lowest=min(each.lowest for each in norms),
        highest=max(each.highest for each in norms),
        total=sum(each.total for each in norms),
    )

"""Reading a file as the job does: surveyed, planned, opened, and read part by part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from actors.corpus import FORMATS, Rows
from actors.corpus.source import look_at, open_source, version_of
from actors.messages import Columns, SourceFile
from actors.queue.plan import Plan

TEXT_ONLY = Columns("text", None, (), pa.int64(), ())


def format_of(path: str) -> str:
    return next(name for name, each in FORMATS.items() if path.lower().endswith(each.suffixes))


def plan_of(path: Path | str, rows_per_part: int = 1 << 20, members: Sequence[str] = ()) -> Plan:
    """Of one file, or of `members` that stand as one."""
    format_ = "documents" if members else format_of(str(path))
    version = version_of(str(path), members)
    survey = look_at(format_, str(path), members)
    file = SourceFile(
        *(str(path), Path(path).name, format_, survey.rows, survey.size, survey.fingerprint),
        version=version,
        members=tuple(members),
    )
    return Plan((file,), rows_per_part, 1 << 40, None, (survey.checkpoints,))


def read_parts(plan: Plan, columns: Columns = TEXT_ONLY, order: Iterable[int] | None = None) -> Iterator[Rows]:
    """What one reader answers for these parts, in this order; all of them in theirs."""
    with closing(open_source(plan.files[0], columns)) as reader:
        for index in range(plan.parts) if order is None else order:
            yield reader.read(plan.part(index))


def read_all(path: Path | str, columns: Columns = TEXT_ONLY) -> Rows:
    return next(read_parts(plan_of(path), columns))

"""Ids that the input has more than once: found before anything is sent, or counted in what was written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa

from actors.errors import UserError
from actors.ids import plain
from actors.messages import Columns
from actors.output.folder import REJECTS, part_names
from actors.output.sinks import PARQUET, Sink, open_sink
from actors.output.store import Place, store_of
from actors.queue.listing import Listing
from actors.queue.plan import Plan
from jobs.reading import read_parts
from jobs.verify_ids import Repeat, find_repeat
from jobs.verify_part import READ_ERRORS, read_ids, shown

MOST_COUNTED = 10_000_000  # rows of an output: seconds, where the run itself has taken minutes
_ROWS_AT_ONCE = 1 << 16


def check_unique_ids(listing: Listing, limit: int | None) -> None:
    """Read the ids of the whole input. Raises UserError naming one that stands twice, and where."""
    if listing.columns.id is None:  # positions
        return
    plan = Plan(listing.files, _ROWS_AT_ONCE, 1 << 62, limit, listing.checkpoints)
    columns = _ids_alone(listing.columns)
    print(f"unique ids: reading those of {plan.rows:,} rows", file=sys.stderr)

    def scan() -> Iterator[tuple[str, pa.Array]]:
        for part, rows in read_parts(plan, columns, range(plan.parts)):
            assert rows.ids is not None
            yield str(part.index), plain(rows.ids)

    if repeat := find_repeat(scan, plan.rows):
        raise UserError(
            f"--unique-ids: id {shown(repeat.value)} is in {_place(plan, repeat.first_file, repeat.first_row)} and "
            f"in {_place(plan, repeat.file, repeat.row)} (rows from 0), and {repeat.count:,} in all repeat an "
            "earlier one; choose another --id-column, or run without --unique-ids"
        )


def count_repeats(out: Place, rows: int, sink: str = PARQUET) -> int | None:
    """Rows of the complete output `out`, rejects among them, that repeat an earlier id.

    None when they are not counted: there are too many of them, each part would be a few round trips, or they cannot
    be read any more.
    """
    if rows > MOST_COUNTED or store_of(out).folder is None:
        return None
    try:
        rejects = sorted(part_names(out, REJECTS))
        kept = open_sink(sink, out)
        repeat = repeat_in(out, kept, [*sorted(kept.names()), *(f"{REJECTS}/{name}" for name in rejects)], rows)
    except READ_ERRORS:
        return None
    return repeat.count if repeat else 0


def repeat_in(out: Place, sink: Sink, names: Iterable[str], rows: int) -> Repeat | None:
    """The first id that stands twice in these files of an output, `rows` rows together.

    Raises one of READ_ERRORS.
    """
    names = list(names)

    def scan() -> Iterator[tuple[str, pa.Array]]:
        for name in names:
            yield name, read_ids(out, sink, name)

    return find_repeat(scan, rows)


def _ids_alone(columns: Columns) -> Columns:
    """To read no text, where a reader can make one of an id."""
    assert columns.id is not None
    text = columns.text if pa.types.is_fixed_size_binary(plain(pa.array([], columns.id_type)).type) else columns.id
    return replace(columns, text=text, keep=(), keep_types=())


def _place(plan: Plan, index: str, row: int) -> str:
    part = plan.part(int(index))
    return f"{plan.files[plan.file_of(part.index)].name} row {part.offset + row:,}"

"""Parts of the input read in this process, one after the other: for a look at it before or after a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from actors.corpus import Reader, Rows
from actors.corpus.source import open_source
from actors.corpus.storage import bare, reason
from actors.errors import FAILED, UserError
from actors.messages import Columns, Part, SourceFile
from actors.queue.plan import Plan


def read_parts(plan: Plan, columns: Columns, indexes: Iterable[int]) -> Iterator[tuple[Part, Rows]]:
    """In the order of `indexes`; where they ascend, each file is read through once at most.

    Raises UserError naming a file that cannot be read or is not what was planned.
    """
    opened: SourceFile | None = None
    reader: Reader | None = None
    try:
        for index in indexes:
            file = plan.files[plan.file_of(index)]
            try:
                if reader is None or file is not opened:
                    if reader:
                        reader.close()
                    reader, opened = open_source(file, columns), file
                part = plan.part(index)
                rows = reader.read(part)
            except (OSError, pa.ArrowException) as error:
                why = reason(error) if isinstance(error, OSError) else error
                raise UserError(f"input {bare(file.path)} cannot be read: {why}", FAILED) from error
            yield part, rows
    finally:
        if reader:
            reader.close()

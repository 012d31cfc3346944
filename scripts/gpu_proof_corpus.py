"""A corpus as long as it must be: the demo's real text again and again, each time with another beginning.

Identical texts would be embedded once, and their vectors given to all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.demo.corpus import write_sample_corpus

_FILE_ROWS = 200_000


def write_corpus(folder: Path, rows: int) -> int:
    """Parquet files with column `text`, all distinct; returns how many rows: `rows` or a little more."""
    folder.mkdir(parents=True)
    written = 0
    for number, texts in enumerate(_variations(_texts(), min(rows, _FILE_ROWS))):
        if written >= rows:
            break
        pq.write_table(pa.table({"text": texts}), folder / f"{number:05d}.parquet")
        written += len(texts)
    return written


def sample(rows: int) -> list[str]:
    """The first of these texts."""
    texts: list[str] = next(_variations(_texts(), rows)).to_pylist()
    return texts[:rows]


def _texts() -> pa.Array:
    with tempfile.TemporaryDirectory() as folder:
        write_sample_corpus(Path(folder, "sample.parquet"))
        table = pq.read_table(Path(folder, "sample.parquet"))
    return pc.unique(table["text"])


def _variations(texts: pa.Array, rows: int) -> Iterator[pa.Array]:
    """About `rows` texts at a time, without end."""
    number = 0
    while True:
        some: list[pa.Array] = []
        while sum(map(len, some)) < rows:
            number += 1
            some.append(pc.binary_join_element_wise(pa.scalar(f"No. {number}:"), texts, " "))
        yield pa.concat_arrays(some)

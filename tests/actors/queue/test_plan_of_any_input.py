"""From files on disk to parts: whatever files there are and however they are named, each row is read once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.corpus import FORMATS
from actors.messages import Columns, Lease
from actors.queue.listing import Listing, list_input
from actors.queue.plan import Plan
from tests.actors.queue.test_listing import write
from tests.examples import examples

corpora = st.dictionaries(
    st.sampled_from(["9.parquet", "10.parquet", "a/z.jsonl", "a/b/y.parquet", "c.jsonl", "a.jsonl"]),
    st.integers(0, 30),
    min_size=1,
).filter(lambda corpus: any(corpus.values()))


def read(lease: Lease, columns: Columns) -> list[tuple[str, int, str | None]]:
    """(part, position in the input, text) of each row."""
    reader = FORMATS[lease.file.format].open(lease.file, columns)
    try:
        return [
            (part.name, part.first_row + i, text)
            for part in lease.parts
            for i, text in enumerate(reader.read(part).texts)
        ]
    finally:
        reader.close()


def planned(
    listing: Listing, rows_per_part: int, rows_per_batch: int, limit: int | None, batches: list[int | None]
) -> list[tuple[str, int, str | None]]:
    """All rows that these data batches read, part by part."""
    plan = Plan(listing.files, rows_per_part, rows_per_batch, limit, listing.checkpoints)
    parts = [index for batch in batches for index in plan.parts_of_batch(batch)]
    return [row for index in parts for row in read(plan.lease(index, 1), listing.columns)]


@examples(30)
@given(corpora, st.integers(1, 12), st.integers(1, 40), st.none() | st.integers(1, 100), st.data())
def test_each_row_is_read_once_in_order_all_at_once_and_batch_by_batch(
    tmp_path_factory: pytest.TempPathFactory,
    corpus: dict[str, int],
    rows_per_part: int,
    rows_per_batch: int,
    limit: int | None,
    data: st.DataObject,
) -> None:
    root = tmp_path_factory.mktemp("in")
    paths = [write(root / name, text=[f"{name} {i}" for i in range(count)]) for name, count in corpus.items()]
    expected = [f"{name} {i}" for name in sorted(corpus) for i in range(corpus[name])][:limit]

    def listed(*inputs: Path) -> Listing:
        return list_input([str(each) for each in inputs], root / "out", "text", None, ())

    listing = listed(root)
    again = listed(*data.draw(st.permutations([*paths, *paths])))
    whole = planned(listing, rows_per_part, rows_per_batch, limit, [None])
    batches: list[int | None] = list(range(1, -(-len(expected) // rows_per_batch) + 1))
    assert [(position, text) for _, position, text in whole] == list(enumerate(expected))
    assert planned(again, rows_per_part, rows_per_batch, limit, batches) == whole

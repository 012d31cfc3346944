"""The index of an earlier output's texts: every one of them is found, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.output import text_index
from actors.output.digests import Words, as_words, digest
from actors.output.text_index import TextIndex, build
from tests.examples import examples


def digests_of(numbers: list[int]) -> Words:
    return as_words(b"".join(digest(str(number).encode()) for number in numbers))


@examples(80)
@given(
    st.lists(st.lists(st.integers(0, 60), max_size=30), min_size=1, max_size=8).filter(any),
    st.lists(st.integers(0, 120), max_size=40),
    st.sampled_from([1 << 22, 10, 1]),
)
def test_every_text_is_found_at_a_row_that_has_it(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], asked: list[int], bucket_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("out") / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_index, "_BUCKET_ROWS", bucket_rows)
        numbers = [7 * index for index in range(len(parts))]
        there = zip(numbers, map(digests_of, parts), strict=True)
        assert build(folder, there, sum(map(len, parts))) == len({each for part in parts for each in part})
    assert sum(path.stat().st_size for path in folder.iterdir()) == 24 * len({x for part in parts for x in part})
    which, found_parts, rows = TextIndex(folder).find(digests_of(asked))
    known = {each for part in parts for each in part}
    assert sorted(which.tolist()) == [i for i, number in enumerate(asked) if number in known]
    places = list(zip(found_parts.tolist(), rows.tolist(), strict=True))
    assert [parts[part // 7][row] for part, row in places] == [asked[i] for i in which.tolist()]
    assert places == sorted(places)


def test_an_index_is_made_anew(tmp_path: Path) -> None:
    build(tmp_path / "index", [(0, digests_of([1]))], 1)
    build(tmp_path / "index", [(0, digests_of([2]))], 1)
    assert [len(found) for found in TextIndex(tmp_path / "index").find(digests_of([1]))] == [0, 0, 0]


def test_a_digest_that_begins_as_another_is_another(tmp_path: Path) -> None:
    build(tmp_path / "index", [(0, np.array([[5, 1]], np.uint64))], 1)
    which, _, _ = TextIndex(tmp_path / "index").find(np.array([[5, 2], [5, 1], [9, 1]], np.uint64))
    assert which.tolist() == [1]

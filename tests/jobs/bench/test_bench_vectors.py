"""Two outputs compared: whatever differs is found, and named by its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.bench.vectors import Agreement, Difference, compare, in_words
from tests.jobs.outputs import NAMES, PARTS, PLAN, Output, build

TWO = tuple[Output, Output]


@pytest.fixture
def two(tmp_path: Path) -> TWO:
    """The same rows embedded twice, row 4 rejected both times."""
    return build(tmp_path / "one", rejected=[4]), build(tmp_path / "other", rejected=[4])


def test_the_same_bit_for_bit(two: TWO) -> None:
    found = compare(two[0].out, two[1].out)
    assert found == Agreement(rows=PLAN.rows - 1, identical=PLAN.rows - 1)
    assert found.same
    assert in_words(found) == "the same in both, bit for bit (28 rows)"


def test_another_vector_is_found_by_its_row(two: TWO) -> None:
    two[1].set_vectors(2, lambda vectors: vectors.__setitem__(3, -vectors[3]))
    found = compare(two[0].out, two[1].out)
    row = PARTS[2].first_row + 3
    assert not found.same
    assert (found.identical, found.differing, found.worst) == (27, 1, (Difference(id=row, cosine=-1.0),))
    assert in_words(found) == f"NOT the same: 1 of 28 rows have another vector, cosine down to -1.0000 (row {row})"


def test_two_vectors_in_each_others_place_are_both_found(two: TWO) -> None:
    two[1].set_vectors(0, lambda vectors: vectors.__setitem__([0, 1], vectors[[1, 0]]))
    assert {each.id for each in compare(two[0].out, two[1].out).worst} == {0, 1}


def test_rounding_is_no_difference_but_is_told(two: TWO) -> None:
    two[1].set_vectors(1, lambda vectors: vectors.__setitem__(0, np.nextafter(vectors[0], 2)))
    found = compare(two[0].out, two[1].out)
    assert found.same
    assert found.identical == 27
    assert 0 < found.largest_difference < 1e-6
    assert "27 bit for bit" in in_words(found)


def test_rows_that_only_one_has(two: TWO) -> None:
    part = two[1].table(1)
    two[1].rewrite(1, part.slice(2))
    (two[1].out / NAMES[3]).unlink()
    found = compare(two[0].out, two[1].out)
    assert found.only_in_one == 2 + PARTS[3].rows
    assert found.rows + found.only_in_one == 28
    assert not found.same


def test_nothing_in_common(two: TWO, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert compare(two[0].out, tmp_path / "empty") == Agreement(only_in_one=28)


def test_pairs_add_up() -> None:
    some = Agreement(rows=5, identical=4, differing=1, least_cosine=0.5, worst=(Difference(id=3, cosine=0.5),))
    other = Agreement(rows=5, identical=4, differing=1, least_cosine=0.2, worst=(Difference(id=4, cosine=0.2),))
    both = some + other
    assert (both.rows, both.identical, both.differing, both.least_cosine) == (10, 8, 2, 0.2)
    assert [each.id for each in both.worst] == [4, 3]

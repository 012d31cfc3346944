"""What several measurements say together."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.bench.outcome import comparison_in_words, faster, mode_in_words, sure
from jobs.bench.spread import Spread, ratios, spread
from jobs.bench.vectors import Agreement, Difference
from tests.jobs.bench.made import compared, result


def test_the_middle_and_the_extremes_of_what_is_known() -> None:
    assert spread([3.0, None, 1.0, 8.0]) == Spread(median=3.0, least=1.0, most=8.0, count=3)
    assert spread([2.0, 1.0]) == Spread(median=1.5, least=1.0, most=2.0, count=2)
    assert spread([None]) is None
    assert spread([]) is None


def test_ratios_are_of_fellows() -> None:
    assert ratios([2.0, 4.0, None, 0.0, 1.0], [8.0, 4.0, 1.0, 1.0, None]) == [4.0, 1.0, None, None, None]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_extremes_hold_the_true_median_as_often_as_is_said(count: int) -> None:
    """Of skewed noise, as times are."""
    said = Spread(median=1, least=0, most=2, count=count).confidence
    drawn = np.random.default_rng(0).lognormal(size=(20_000, count))
    held = ((drawn.min(axis=1) < 1) & (drawn.max(axis=1) > 1)).mean()
    assert said == pytest.approx(held, abs=0.01)


def test_one_measurement_is_sure_of_nothing() -> None:
    one = Spread(median=4.0, least=4.0, most=4.0, count=1)
    assert one.confidence is None
    assert "cannot be told" in sure(one)
    assert faster(one) == "4.0 times as many rows a second"


def test_a_difference_within_the_noise_is_said_to_be_none() -> None:
    assert sure(Spread(median=1.2, least=0.9, most=1.5, count=2)).endswith(
        "the noise is larger than the difference"
    )
    assert "noise" not in sure(Spread(median=1.2, least=1.1, most=1.5, count=2))


def test_how_a_comparison_is_said() -> None:
    sync, async_ = result("sync", 1000.0, 1200.0, gpu=0.25), result("async", 9000.0, 9600.0, gpu=None)
    assert mode_in_words(sync) == (
        "sync   1,100 (1,000 to 1,200) rows/s, 1,100 (1,000 to 1,200) in the second half; GPU 25%; median of 2 runs"
    )
    found = compared(sync, async_)
    assert [each.first for each in found.pairs] == ["sync", "async"]
    assert found.times_faster == Spread(median=8.5, least=8.0, most=9.0, count=2)
    assert found.confidence == 0.5
    first, second, last = comparison_in_words(found).split("\n")
    assert first.startswith("async embeds 8.5 times as many rows a second, 8.0 to 9.0 (median of 2 pairs of runs;")
    assert first.endswith("their range holds the true one with 50% confidence)")
    assert "second half" in second
    assert last == "vectors: the same in both, bit for bit (15,000 rows)"


def test_other_vectors_are_said_by_row() -> None:
    differing = Agreement(
        rows=100, identical=98, differing=2, least_cosine=0.1, worst=(Difference(id=7, cosine=0.1),), only_in_one=3
    )
    last = comparison_in_words(compared(result("sync", 1.0), result("async", 2.0), differing)).split("\n")[-1]
    assert last.startswith(
        "vectors: NOT the same: 2 of 100 rows have another vector, cosine down to 0.1000 (row 7, …)"
    )
    assert "3 rows are in one of the two outputs only" in last

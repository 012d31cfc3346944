"""Mean and quantile of what was counted, beside numpy's of the same values."""

from __future__ import annotations

import numpy as np
import pytest

from actors.driver.spread import Spread


def spread(values: list[float]) -> Spread:
    found = Spread()
    for each in values:
        found.add(each)
    return found


def test_nothing_was_seen() -> None:
    assert (spread([]).mean, spread([]).quantile(0.1)) == (None, None)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 1000])
def test_as_numpy_says(count: int) -> None:
    values = np.random.default_rng(count).beta(8, 1, count).tolist()
    found = spread(values)
    assert found.mean == pytest.approx(np.mean(values))
    for share in (0.0, 0.1, 0.5, 1.0):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), abs=0.0006)


def test_ends_and_what_lies_beyond() -> None:
    found = spread([0.0, 1.0, 1.0000001, -1e-9])
    assert (found.quantile(0.1), found.quantile(1.0)) == (0.0, 1.0)

"""Requests are cut so that a server's own batches come out full, and go long and short interleaved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.cuts import LOSS, MOST_TOGETHER, WHOLE, cut, whole

ENDLESS = 1 << 40


@given(
    st.lists(st.integers(1, 3000), max_size=400),
    st.integers(1, 300),
    st.integers(1, 60_000),
    st.integers(0, 50),
)
def test_every_text_is_in_one_request_that_keeps_to_the_bounds(
    lengths: list[int], most_rows: int, most_size: int, turn: int
) -> None:
    lengths.sort()
    cuts = cut(lengths, most_rows, most_size, turn)
    assert sorted(row for start, stop in cuts for row in range(start, stop)) == list(range(len(lengths)))
    for start, stop in cuts:
        assert 1 <= stop - start <= most_rows
        assert stop - start == 1 or (stop - start) * lengths[stop - 1] <= most_size


@given(st.integers(1, 5000), st.integers(0, 7))
def test_being_round_costs_at_most_a_quarter(rows: int, before: int) -> None:
    kept = whole(rows, 32 * before)
    assert 1 <= kept <= rows
    assert rows < 32 or kept >= rows - max(rows // LOSS, 31)


@pytest.mark.parametrize("rows", [130, 300, 700, 1000])
def test_neighbours_end_with_a_servers_batch(rows: int) -> None:
    cuts = cut([100] * 20_000, 4096, 100 * rows)
    ends = np.cumsum([stop - start for start, stop in reversed(cuts)])
    assert np.mean([end % WHOLE == 0 for end in ends]) >= 1 / MOST_TOGETHER - 0.05


def test_a_request_bound_by_rows_has_them_all() -> None:
    assert [stop - start for start, stop in cut([100] * 150, 50, ENDLESS)] == [50, 50, 50]


def test_a_few_requests_in_a_row_are_a_sample() -> None:
    lengths = np.sort(np.random.default_rng(5).lognormal(5.5, 0.8, 16_384).astype(int))
    cuts = cut(lengths, 2048, 32_768)
    means = [
        np.mean(np.concatenate([lengths[a:b] for a, b in cuts[i : i + 16]])) for i in range(0, len(cuts) - 16, 16)
    ]
    assert np.std(means) / np.mean(means) < 0.5

"""What the batches of texts that wait must be, whatever waits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.serve.batching import Batch, Waiting

MOST = 1000
REQUESTS = st.lists(st.lists(st.integers(0, 1500), min_size=1, max_size=60), max_size=12)


def waiting(requests: list[list[int]], *, merge: bool = True, most: int = MOST) -> Waiting:
    line = Waiting(most, merge=merge)
    for number, lengths in enumerate(requests):
        line.add(number, np.array(lengths, np.int64))
    return line


def drain(line: Waiting) -> list[Batch]:
    batches = []
    while batch := line.next():
        batches.append(batch)
    return batches


def pairs(batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.requests.tolist(), batch.texts.tolist(), strict=True))


@given(REQUESTS, st.booleans())
def test_each_text_once_and_no_batch_too_large(requests: list[list[int]], merge: bool) -> None:
    line = waiting(requests, merge=merge)
    seen: list[tuple[int, int]] = []
    for batch in drain(line):
        its = pairs(batch)
        lengths = [requests[request][text] for request, text in its]
        assert lengths == sorted(lengths)
        assert batch.tokens == sum(lengths)
        assert batch.padded == len(lengths) * max(1, *lengths, 0)
        assert batch.padded <= MOST or len(lengths) == 1
        if not merge:
            assert len({request for request, _ in its}) == 1
        seen += its
    assert sorted(seen) == [(i, j) for i, lengths in enumerate(requests) for j in range(len(lengths))]
    assert line.next() is None


@given(REQUESTS)
def test_the_oldest_text_is_never_left_behind(requests: list[list[int]]) -> None:
    line, left = waiting(requests), [(i, j) for i, lengths in enumerate(requests) for j in range(len(lengths))]
    while batch := line.next():
        its = set(pairs(batch))
        assert left[0] in its
        left = [each for each in left if each not in its]


def test_each_request_stands_alone_and_in_order() -> None:
    batches = drain(waiting([[5, 3], [4], [900, 200, 100]], merge=False))
    assert [pairs(batch) for batch in batches] == [[(0, 1), (0, 0)], [(1, 0)], [(2, 0)], [(2, 2), (2, 1)]]


def test_small_requests_of_like_length_share_a_batch() -> None:
    (batch,) = drain(waiting([[10] * 5] * 10))
    assert len(batch.texts) == 50
    assert batch.padded == batch.tokens == 500


def test_few_texts_wait_for_nobody() -> None:
    (batch,) = drain(waiting([[7]]))
    assert pairs(batch) == [(0, 0)]


@pytest.mark.parametrize("seed", range(3))
def test_texts_of_any_length_are_padded_little(seed: int) -> None:
    """Shuffled texts, as from a client that does not sort: alone, a request is padded to more than twice."""
    draw = np.random.default_rng(seed)
    requests = [np.clip(draw.lognormal(4, 0.9, 64), 3, 512).astype(int).tolist() for _ in range(200)]

    def filled(*, merge: bool) -> float:
        batches = drain(waiting(requests, merge=merge, most=16_384))
        return sum(batch.tokens for batch in batches) / sum(batch.padded for batch in batches)

    assert filled(merge=False) < 0.5
    assert filled(merge=True) > 0.9


def test_batches_are_full_while_enough_waits() -> None:
    draw = np.random.default_rng(0)
    requests = [np.clip(draw.lognormal(4, 0.9, 64), 3, 512).astype(int).tolist() for _ in range(400)]
    batches = drain(waiting(requests, most=16_384))[:-10]
    assert sum(batch.padded for batch in batches) / len(batches) > 0.9 * 16_384


def test_a_long_text_among_short_ones_does_not_pad_them() -> None:
    batches = drain(waiting([[10] * 40, [900]]))
    assert [batch.padded for batch in batches] == [400, 900]


def test_what_is_dropped_waits_no_longer() -> None:
    line = waiting([[100] * 20, [100] * 3, [100] * 20], merge=False)
    line.next()
    line.drop(0)
    line.drop(2)
    assert [set(batch.requests.tolist()) for batch in drain(line)] == [{1}]

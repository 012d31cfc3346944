"""Blocks: memory is lent again, and never to two at a time."""

from __future__ import annotations

import numpy as np

from actors.embedder.blocks import Blocks


def test_a_block_that_came_back_is_lent_again() -> None:
    blocks = Blocks()
    first = blocks.take(1 << 20)
    first[:] = 7
    blocks.give(first)
    again = blocks.take(1 << 19)
    assert np.shares_memory(first, again)
    assert not np.shares_memory(again, blocks.take(1 << 19))


def test_the_smallest_that_fits_is_lent_and_none_that_is_far_too_large() -> None:
    blocks = Blocks()
    sizes = [1 << 24, 1 << 20, 1 << 21]
    lent = [blocks.take(size) for size in sizes]
    for each in lent:
        blocks.give(each)
    assert np.shares_memory(blocks.take(900_000), lent[1])
    assert np.shares_memory(blocks.take(900_000), lent[2])
    assert not np.shares_memory(blocks.take(900_000), lent[0])


def test_no_bytes_at_all() -> None:
    assert Blocks().take(0).nbytes >= 0

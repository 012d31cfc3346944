"""Vectors that depend on nothing but their text, so that a test can say which vector each row must have."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TOP_24_BITS = np.uint64(40)


def vector_of(text: str, dim: int) -> NDArray[np.float32]:
    """The vector of one text: float32[dim] of length 1, bit for bit its row in `vectors_of`."""
    row: NDArray[np.float32] = vectors_of([text], dim)[0]
    return row


def vectors_of(texts: Sequence[str], dim: int) -> NDArray[np.float32]:
    """float32[n, dim], one row a text in the order given, each L2-normalised and free of NaN.

    A row depends on its text and `dim` only. From dim 4 on, two different texts have different rows (but for
    a chance of about 2**-64); below that there are too few directions in float32 to promise it.
    """
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    seeds = np.frombuffer(digests, dtype="<u8")
    scattered = (seeds[:, np.newaxis] * _factors(dim)) >> _TOP_24_BITS
    # 24 bits around zero are exact in float32, and the half step keeps every element away from zero.
    rows = scattered.view(np.int64).astype(np.float32) - np.float32(2**23 - 0.5)
    rows /= np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return rows


@functools.lru_cache
def _factors(dim: int) -> NDArray[np.uint64]:
    """uint64[dim] of fixed random odd numbers: times an odd number, no two seeds become the same."""
    stream = hashlib.shake_128(b"rayembed").digest(8 * dim)
    factors: NDArray[np.uint64] = np.frombuffer(stream, dtype="<u8") | np.uint64(1)
    return factors

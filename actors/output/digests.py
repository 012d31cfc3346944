"""What stands for a text where the text itself is not at hand: 16 bytes, the same in every process and version."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_digest as digest

# Two different texts out of n have the same digest with a chance of n * n / 2**129: 1.5e-21 for a billion texts.
# It does not hold against somebody who makes texts for that purpose.

__all__ = ["DIGEST", "DIGEST_BYTES", "Words", "as_words", "digest"]

DIGEST = "xxh3_128"
DIGEST_BYTES = 16

Words = npt.NDArray[np.uint64]


def as_words(digests: bytes) -> Words:
    """uint64[n, 2] of n digests, to be compared as numbers."""
    words: Words = np.frombuffer(digests, "<u8").reshape(-1, 2)
    return words

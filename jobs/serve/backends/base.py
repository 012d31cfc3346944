"""What the server asks of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """`vectors[i]` and `tokens[i]` belong to the i-th text: float32[n, dim] of unit length, int64[n]."""

    vectors: Vectors
    tokens: Counts


class Backend(Protocol):
    """A loaded model. `encode` is called from one thread at a time."""

    @property
    def name(self) -> str:
        """The name that requests use for the model."""

    @property
    def dim(self) -> int:
        """Elements in a vector."""

    @property
    def max_tokens(self) -> int | None:
        """The longest text the model reads, in tokens; it drops the rest. None: it reads all of any text."""

    @property
    def matryoshka(self) -> bool:
        """Whether the first elements of a vector, brought back to unit length, are a usable shorter vector."""

    def encode(self, texts: list[str]) -> Encoded:
        """One vector a text, in order. A text's vector does not depend on its neighbours beyond rounding."""


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row divided by its length; float32 of the same shape, always finite and of unit length.

    A row without a direction (all zeros, or not finite) becomes the vector of equal elements: cosine against a
    zero vector is undefined, and this one is far from the vectors of real texts, so it is nobody's neighbour.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lost = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
    if lost.any():
        vectors, lengths = vectors.copy(), lengths.copy()
        vectors[lost], lengths[lost] = 1.0, np.sqrt(vectors.shape[1])
    return np.asarray(vectors / lengths, dtype=np.float32)

"""What the server asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """`vectors[i]` and `tokens[i]` belong to the i-th text: float32[n, dim] of unit length, int64[n]."""

    vectors: Vectors
    tokens: Counts


class Backend(Protocol):
    """A loaded model, in two steps, so that texts of several requests can share one step of the model.

    The first step may run in any number of threads, the second in `lanes` of them at a time.
    """

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

    @property
    def batch_tokens(self) -> int:
        """As many tokens, padding included, fill the device; more at once bring nothing."""

    @property
    def lanes(self) -> int:
        """So many batches at a time keep the device busy: one computes, the others are on their way."""

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """What the model reads of each text, in order, its special tokens included: int32[tokens]."""

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        """float32[n, dim] of unit length, in order, in one batch. A row's vector does not depend on its neighbours
        beyond rounding."""


def encode(backend: Backend, texts: Sequence[str]) -> Encoded:
    """Both steps for these texts alone, in one batch."""
    rows = backend.tokenize(texts)
    return Encoded(backend.embed(rows), counts(rows))


def counts(rows: Sequence[Ids]) -> Counts:
    """Tokens of each row."""
    return np.fromiter(map(len, rows), np.int64, len(rows))


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
